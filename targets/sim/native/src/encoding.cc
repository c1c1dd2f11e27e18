#include "encoding.h"

#include <cstdarg>
#include <cstdio>
#include <limits>

#include "access_log.h"
#include "isa.h"

namespace tilewright {
namespace {

__attribute__((format(printf, 3, 4))) bool Fail(Fault* fault, FaultKind kind, const char* format, ...) {
  char text[400];
  std::va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  fault->kind = kind;
  fault->text = text;
  return false;
}

template <std::size_t N>
bool CheckFields(Fault* fault, const std::uint8_t* bytes, const char* name, const isa::Field (&fields)[N],
                 int bits, int own) {
  for (const isa::Field& f : fields) {
    const std::int64_t value = f.is_signed
                                   ? isa::GetSigned(bytes, f.offset, f.width)
                                   : static_cast<std::int64_t>(isa::GetBits(bytes, f.offset, f.width));
    if (value < f.lo || value > f.hi)
      return Fail(fault, FaultKind::kEncoding, "%s.%s: %lld is not in %lld..%lld; %s", name, f.name,
                  static_cast<long long>(value), static_cast<long long>(f.lo), static_cast<long long>(f.hi),
                  f.doc);
  }
  // The first two fields are `wait` and `give`.
  for (const isa::Field* f : {&fields[0], &fields[1]})
    if (isa::GetBits(bytes, f->offset, f->width) & static_cast<std::uint64_t>(own))
      return Fail(fault, FaultKind::kEncoding, "%s.%s: must not have a bit of %d", name, f->name, own);
  for (int bit = bits; bit < isa::kInstructionBits; bit = (bit / 8 + 1) * 8)
    if (bytes[bit / 8] >> (bit % 8))
      return Fail(fault, FaultKind::kEncoding, "%s: bits from %d up must be 0, byte %d is %d", name, bits,
                  bit / 8, bytes[bit / 8]);
  return true;
}

bool CheckEncoding(Fault* fault, const std::uint8_t* bytes) {
  switch (static_cast<isa::Opcode>(isa::GetOpcode(bytes))) {
    case isa::Opcode::kLoad:
      return CheckFields(fault, bytes, "LOAD", isa::kLoadFields, isa::kLoadBits, 1 << kLoad);
    case isa::Opcode::kMatrix: {
      if (!CheckFields(fault, bytes, "MATRIX", isa::kMatrixFields, isa::kMatrixBits, 1 << kMatrix))
        return false;
      const isa::Matrix i = isa::DecodeMatrix(bytes);
      unsigned seen = 0;
      for (std::uint32_t counter : {i.order_0, i.order_1, i.order_2, i.order_3, i.order_4, i.order_5})
        seen |= 1u << counter;
      return seen == 0x3f ||
             Fail(fault, FaultKind::kEncoding, "MATRIX.order_0..5 must hold each of 0..5 once");
    }
    case isa::Opcode::kVector:
      return CheckFields(fault, bytes, "VECTOR", isa::kVectorFields, isa::kVectorBits, 1 << kVector);
    case isa::Opcode::kStore:
      return CheckFields(fault, bytes, "STORE", isa::kStoreFields, isa::kStoreBits, 1 << kStore);
    case isa::Opcode::kFinish:
      return CheckFields(fault, bytes, "FINISH", isa::kFinishFields, isa::kFinishBits, 15);
  }
  return Fail(fault, FaultKind::kEncoding, "%d is not an operation", isa::GetOpcode(bytes));
}

}  // namespace

bool CheckStream(const std::uint8_t* stream, std::size_t size, Fault* fault) {
  *fault = Fault{};
  constexpr std::size_t kBytes = isa::kInstructionBytes;
  if (size % kBytes != 0 || (stream == nullptr && size != 0))
    return Fail(fault, FaultKind::kEncoding, "a stream is a multiple of %zu bytes, found %zu; is it cut off?",
                kBytes, size);
  const std::size_t count = size / kBytes;
  if (count > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    return Fail(fault, FaultKind::kArgument, "a stream has at most 2^31-1 instructions, found %zu", count);
  std::size_t finish = count;
  for (std::size_t n = 0; n < count; ++n) {
    fault->instruction = static_cast<std::int64_t>(n);
    if (!CheckEncoding(fault, stream + n * kBytes)) return false;
    if (finish == count && isa::GetOpcode(stream + n * kBytes) == static_cast<int>(isa::Opcode::kFinish))
      finish = n;
  }
  fault->instruction = -1;
  if (finish == count)
    return Fail(fault, FaultKind::kFinish, "the stream of %zu instructions has no FINISH", count);
  if (finish + 1 < count) {
    fault->instruction = static_cast<std::int64_t>(finish) + 1;
    return Fail(fault, FaultKind::kFinish, "comes after the FINISH at %zu", finish);
  }
  return true;
}

}  // namespace tilewright
