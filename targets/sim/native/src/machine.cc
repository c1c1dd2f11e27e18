#include "machine.h"

#include <cstdarg>
#include <cstdio>
#include <string>

#include "encoding.h"
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
      dram_granule_(overlay.half_word_bytes() < isa::kRecordBytes ? overlay.half_word_bytes()
                                                                  : isa::kRecordBytes) {
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
  auto rows = [](std::int32_t n) { return static_cast<std::size_t>(n); };
  act_log_.Reset({"half word", "ACT"}, rows(o_.act_half_words), Mask({kLoad, kVector}),
                 Mask({kMatrix, kVector, kStore}));
  wgt_log_.Reset({"tile", "WGT"}, rows(o_.wgt_tiles), Mask({kLoad}), Mask({kMatrix}));
  param_log_.Reset({"record", "PARAM"}, rows(o_.param_records), Mask({kLoad}), Mask({kVector}));
  disp_log_.Reset({"entry", "DISP"}, rows(o_.disp_entries), Mask({kLoad}), Mask({kMatrix}));
  acc_log_.Reset({"half", "ACC"}, 2, Mask({kMatrix}), Mask({kVector}));
  acc_written_.assign(acc_written_.size(), 0);
  segments_ = segments;
  const std::size_t granule = static_cast<std::size_t>(dram_granule_);
  for (std::size_t base = 0; base < segments.size(); ++base) {
    // Constants and inputs are never written: their logs only say how long they are.
    const unsigned writers = base % 2 == 1 ? Mask({kStore}) : 0, readers = base % 2 == 1 ? Mask({kLoad}) : 0;
    dram_log_[base].Reset({"byte", kSegmentNames[base], granule}, segments[base].size / granule, writers,
                          readers);
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

bool Machine::FailConflict(const Conflict& c, const AccessLog& log, const char* verb) {
  const AccessLog::Label& label = log.label();
  const std::size_t row = c.row * label.scale;
  switch (c.type) {
    case Conflict::kUninitialised:
      return Fail(FaultKind::kUninitialised, "reads %s %zu of %s, which nothing has written", label.row, row,
                  label.memory);
    case Conflict::kOverlap:
      return Fail(FaultKind::kOverlap, "writes %s %zu of %s more than once", label.row, row, label.memory);
    default:
      fault_->other = tokens_.IndexOf(c.unit, c.number);
      return Fail(
          FaultKind::kRace,
          "%s %s %zu of %s, which instruction %lld %s, and no token orders the two; %s must wait for %s",
          verb, label.row, row, label.memory, static_cast<long long>(fault_->other),
          c.other_wrote ? "writes" : "reads", UnitName(unit_), UnitName(c.unit));
  }
}

bool Machine::Read(AccessLog* log, std::size_t first, std::size_t count) {
  Conflict conflict;
  return log->Read(unit_, clock_, first, count, &conflict) || FailConflict(conflict, *log, "reads");
}

bool Machine::Write(AccessLog* log, std::size_t first, std::size_t count) {
  Conflict conflict;
  return log->Write(unit_, clock_, first, count, &conflict) || FailConflict(conflict, *log, "writes");
}

bool Machine::CheckLast(const AccessLog& log, const char* verb, std::int64_t last) {
  const std::int64_t rows = static_cast<std::int64_t>(log.rows());
  if (last < rows) return true;
  const AccessLog::Label& label = log.label();
  const std::int64_t scale = static_cast<std::int64_t>(label.scale);
  if (rows == 0)
    return Fail(FaultKind::kAddress, "%s %s %lld of %s, but there is none", verb, label.row,
                static_cast<long long>(last * scale), label.memory);
  return Fail(FaultKind::kAddress, "%s %s %lld of %s, but the last is %lld", verb, label.row,
              static_cast<long long>(last * scale), label.memory, static_cast<long long>((rows - 1) * scale));
}

// Tokens before and after, execution between them.
template <typename UnitType, typename I>
bool Machine::Execute(int unit, const I& instruction) {
  unit_ = unit;
  const int missing = tokens_.Begin(unit, instruction.wait, index_, &clock_);
  if (missing >= 0)
    return Fail(FaultKind::kToken,
                "waits for a token from %s, but none was given before; an earlier %s must give to %s",
                UnitName(missing), UnitName(missing), UnitName(unit));
  if (!UnitType(this).Execute(instruction)) return false;
  ++stats_->instructions[static_cast<std::size_t>(unit)];
  const int full = tokens_.End(unit, instruction.give, clock_);
  if (full < 0) return true;
  return Fail(FaultKind::kToken, "token counter %s->%s reaches %d, it holds %d", UnitName(unit),
              UnitName(full), isa::kTokenMax + 1, isa::kTokenMax);
}

bool Machine::Finish() {
  std::string left;
  for (int from = 0; from < kUnits; ++from)
    for (int to = 0; to < kUnits; ++to)
      if (tokens_.count(from, to) != 0)
        left += std::string(left.empty() ? "" : ", ") + UnitName(from) + "->" + UnitName(to) + " " +
                std::to_string(tokens_.count(from, to));
  return left.empty() ||
         Fail(FaultKind::kToken, "tokens are left: %s; each token given must be waited for", left.c_str());
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
  // The whole stream must be well formed before any of it runs.
  if (!CheckStream(stream, size, fault)) return false;
  stats->fetch_bytes = static_cast<std::int64_t>(size);
  constexpr std::size_t kBytes = isa::kInstructionBytes;
  const std::size_t count = size / kBytes;
  for (std::size_t n = 0; n < count; ++n) {
    index_ = static_cast<std::int64_t>(n);
    if (!Step(stream + n * kBytes)) return false;
  }
  return true;
}

}  // namespace tilewright
