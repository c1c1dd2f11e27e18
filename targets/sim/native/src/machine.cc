#include "machine.h"

#include <cstdarg>
#include <cstdio>
#include <limits>

#include "matrix_unit.h"
#include "units.h"
#include "vector_unit.h"

namespace tilewright {
namespace {

constexpr unsigned Mask(std::initializer_list<int> units) {
  unsigned mask = 0;
  for (int u : units) mask |= 1u << u;
  return mask;
}

const char* UnitName(int unit) { return isa::kUnitNames[unit]; }

}  // namespace

Machine::Machine(const Overlay& overlay)
    : level(BestSimdLevel()),
      o_(overlay),
      bipolar_(overlay.inp_bits == 1 ? 1 : 0),
      out16_((overlay.block_out + 15) / 16 * 16),
      dram_granule_(overlay.half_word_bytes() < isa::kRecordBytes ? overlay.half_word_bytes() : isa::kRecordBytes) {
  auto size = [](std::int64_t a, std::int64_t b) { return static_cast<std::size_t>(a * b); };
  act_.resize(size(o_.act_half_words, o_.block_in));
  wgt_.resize(size(o_.wgt_tiles, o_.tile_bytes()));
  param_.resize(size(o_.param_records, isa::kRecordBytes));
  acc_.resize(size(o_.acc_vectors, out16_));
  disp_.resize(static_cast<std::size_t>(o_.disp_entries));
  pack_key_.resize(static_cast<std::size_t>(o_.wgt_tiles));
  acc_written_.resize(static_cast<std::size_t>(o_.acc_vectors));
}

void Machine::Reset(const Segments& segments) {
  act_log_.Reset(static_cast<std::size_t>(o_.act_half_words), Mask({kLoad, kVector}),
                 Mask({kMatrix, kVector, kStore}));
  wgt_log_.Reset(static_cast<std::size_t>(o_.wgt_tiles), Mask({kLoad}), Mask({kMatrix}));
  param_log_.Reset(static_cast<std::size_t>(o_.param_records), Mask({kLoad}), Mask({kVector}));
  disp_log_.Reset(static_cast<std::size_t>(o_.disp_entries), Mask({kLoad}), Mask({kMatrix}));
  acc_log_.Reset(2, Mask({kMatrix}), Mask({kVector}));
  acc_written_.assign(acc_written_.size(), 0);
  segments_ = segments;
  const std::size_t granule = static_cast<std::size_t>(dram_granule_);
  for (std::size_t base = 0; base < segments.size(); ++base) {
    const bool written = base % 2 == 1;  // workspace and outputs
    dram_log_[base].Reset(written ? (segments[base].size + granule - 1) / granule : 0, Mask({kStore}),
                          Mask({kLoad}));
  }
  tokens_.Reset();
  index_ = 0;
}

bool Machine::Fail(FaultKind kind, const char* format, ...) {
  char text[400];
  std::va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  fault_->kind = kind;
  fault_->instruction = index_;
  fault_->text = text;
  return false;
}

bool Machine::FailConflict(const Conflict& c, const char* memory, const char* row_name) {
  switch (c.type) {
    case Conflict::kUninitialised:
      return Fail(FaultKind::kUninitialised, "%s %s %zu is read and nothing has written it", memory, row_name, c.row);
    case Conflict::kOverlap:
      return Fail(FaultKind::kOverlap, "%s %s %zu is written twice by one instruction", memory, row_name, c.row);
    default:
      fault_->other = tokens_.IndexOf(c.unit, c.number);
      return Fail(FaultKind::kRace, "%s %s %zu: no token orders this access after that of instruction %lld (%s, %s)",
                  memory, row_name, c.row, static_cast<long long>(fault_->other), UnitName(c.unit),
                  c.other_wrote ? "a write" : "a read");
  }
}

bool Machine::Read(AccessLog* log, std::size_t first, std::size_t count, const char* memory, const char* row_name) {
  Conflict conflict;
  return log->Read(unit_, clock_, first, count, &conflict) || FailConflict(conflict, memory, row_name);
}

bool Machine::Write(AccessLog* log, std::size_t first, std::size_t count, const char* memory, const char* row_name) {
  Conflict conflict;
  return log->Write(unit_, clock_, first, count, &conflict) || FailConflict(conflict, memory, row_name);
}

template <std::size_t N>
bool Machine::CheckFields(const std::uint8_t* bytes, const char* name, const isa::Field (&fields)[N], int bits,
                          int own) {
  for (const isa::Field& f : fields) {
    const std::int64_t value = f.is_signed ? isa::GetSigned(bytes, f.offset, f.width)
                                           : static_cast<std::int64_t>(isa::GetBits(bytes, f.offset, f.width));
    if (value < f.lo || value > f.hi)
      return Fail(FaultKind::kEncoding, "%s.%s: %lld is not in %lld..%lld; %s", name, f.name,
                  static_cast<long long>(value), static_cast<long long>(f.lo), static_cast<long long>(f.hi), f.doc);
  }
  // The first two fields are `wait` and `give`.
  for (const isa::Field* f : {&fields[0], &fields[1]})
    if (isa::GetBits(bytes, f->offset, f->width) & static_cast<std::uint64_t>(own))
      return Fail(FaultKind::kEncoding, "%s.%s: must not have a bit of %d", name, f->name, own);
  for (int bit = bits; bit < isa::kInstructionBits; bit = (bit / 8 + 1) * 8)
    if (bytes[bit / 8] >> (bit % 8))
      return Fail(FaultKind::kEncoding, "%s: bits from %d up must be 0, byte %d is %d", name, bits, bit / 8,
                  bytes[bit / 8]);
  return true;
}

bool Machine::CheckEncoding(const std::uint8_t* bytes) {
  switch (static_cast<isa::Opcode>(isa::GetOpcode(bytes))) {
    case isa::Opcode::kLoad:
      return CheckFields(bytes, "LOAD", isa::kLoadFields, isa::kLoadBits, 1 << kLoad);
    case isa::Opcode::kMatrix: {
      if (!CheckFields(bytes, "MATRIX", isa::kMatrixFields, isa::kMatrixBits, 1 << kMatrix)) return false;
      const isa::Matrix i = isa::DecodeMatrix(bytes);
      unsigned seen = 0;
      for (std::uint32_t counter : {i.order_0, i.order_1, i.order_2, i.order_3, i.order_4, i.order_5})
        seen |= 1u << counter;
      return seen == 0x3f || Fail(FaultKind::kEncoding, "MATRIX.order_0..5 must hold each of 0..5 once");
    }
    case isa::Opcode::kVector:
      return CheckFields(bytes, "VECTOR", isa::kVectorFields, isa::kVectorBits, 1 << kVector);
    case isa::Opcode::kStore:
      return CheckFields(bytes, "STORE", isa::kStoreFields, isa::kStoreBits, 1 << kStore);
    case isa::Opcode::kFinish:
      return CheckFields(bytes, "FINISH", isa::kFinishFields, isa::kFinishBits, 15);
  }
  return Fail(FaultKind::kEncoding, "%d is not an operation", isa::GetOpcode(bytes));
}

// Tokens before and after, execution between them.
template <typename UnitType, typename I>
bool Machine::Execute(int unit, const I& instruction) {
  unit_ = unit;
  const int missing = tokens_.Begin(unit, instruction.wait, index_, &clock_);
  if (missing >= 0)
    return Fail(FaultKind::kToken, "%s waits for a token of %s that no earlier instruction gives", UnitName(unit),
                UnitName(missing));
  if (!UnitType(this).Execute(instruction)) return false;
  ++stats_->instructions[static_cast<std::size_t>(unit)];
  const int full = tokens_.End(unit, instruction.give, clock_);
  if (full < 0) return true;
  return Fail(FaultKind::kToken, "the counter of %s's tokens for %s would pass %d", UnitName(unit), UnitName(full),
              isa::kTokenMax);
}

bool Machine::Finish() {
  for (int from = 0; from < kUnits; ++from)
    for (int to = 0; to < kUnits; ++to)
      if (tokens_.count(from, to) != 0)
        return Fail(FaultKind::kToken, "%lld tokens of %s for %s are left at FINISH",
                    static_cast<long long>(tokens_.count(from, to)), UnitName(from), UnitName(to));
  return true;
}

bool Machine::Step(const std::uint8_t* bytes) {
  switch (static_cast<isa::Opcode>(isa::GetOpcode(bytes))) {
    case isa::Opcode::kLoad:
      return Execute<CopyUnit>(kLoad, isa::DecodeLoad(bytes));
    case isa::Opcode::kMatrix:
      return Execute<MatrixUnit>(kMatrix, isa::DecodeMatrix(bytes));
    case isa::Opcode::kVector:
      return Execute<VectorUnit>(kVector, isa::DecodeVector(bytes));
    case isa::Opcode::kStore:
      return Execute<CopyUnit>(kStore, isa::DecodeStore(bytes));
    case isa::Opcode::kFinish:
      break;
  }
  return Finish();
}

bool Machine::Run(const std::uint8_t* stream, std::size_t size, const Segments& segments, Stats* stats,
                  Fault* fault) {
  *stats = Stats{};
  *fault = Fault{};
  stats_ = stats;
  fault_ = fault;
  Reset(segments);
  index_ = -1;
  for (const Segment& segment : segments)
    if (segment.data == nullptr && segment.size != 0) return Fail(FaultKind::kArgument, "a segment without data");
  constexpr std::size_t kBytes = isa::kInstructionBytes;
  if (size % kBytes != 0 || (stream == nullptr && size != 0))
    return Fail(FaultKind::kEncoding, "a stream is a multiple of %zu bytes, found %zu; is it cut off?", kBytes, size);
  const std::size_t count = size / kBytes;
  if (count > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    return Fail(FaultKind::kArgument, "a stream has at most 2^31-1 instructions, found %zu", count);
  stats->fetch_bytes = static_cast<std::int64_t>(size);
  // The whole stream must be well formed before any of it runs.
  std::size_t finish = count;
  for (std::size_t n = 0; n < count; ++n) {
    index_ = static_cast<std::int64_t>(n);
    if (!CheckEncoding(stream + n * kBytes)) return false;
    if (finish == count && isa::GetOpcode(stream + n * kBytes) == static_cast<int>(isa::Opcode::kFinish)) finish = n;
  }
  index_ = static_cast<std::int64_t>(count) - 1;
  if (finish == count) return Fail(FaultKind::kFinish, "the stream of %zu instructions has no FINISH", count);
  index_ = static_cast<std::int64_t>(finish) + 1;
  if (finish + 1 < count) return Fail(FaultKind::kFinish, "comes after the FINISH at %zu", finish);
  for (std::size_t n = 0; n < count; ++n) {
    index_ = static_cast<std::int64_t>(n);
    if (!Step(stream + n * kBytes)) return false;
  }
  return true;
}

}  // namespace tilewright
