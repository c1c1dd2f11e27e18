#include "mutate.h"

#include <algorithm>
#include <cstring>

#include "isa.h"
#include "sha256.h"

namespace tilewright::fuzz {
namespace {

constexpr std::size_t kHead = 24, kDigest = 32, kName = 32, kEntry = kName + 8 + 8 + kDigest;

std::uint64_t Number(const std::uint8_t* from, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | from[i];
  return value;
}

void Put(Bytes* to, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) to->push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

// Numbers at which programs go wrong.
std::uint64_t Interesting(Random* random) {
  constexpr std::uint64_t kValues[] = {0, 1, 2, 7, 8, 16, 63, 64, 127, 128, 255, 256, 1023, 1024, 4096, 32767, 32768,
                                       65535, 65536, 1u << 24, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 62,
                                       0x7fffffffffffffff, 0x8000000000000000, ~0ull, ~1ull, ~15ull};
  const std::uint64_t value = kValues[random->Below(std::size(kValues))];
  return random->Chance(20) ? value + random->Below(5) - 2 : value;
}

std::size_t Place(Random* random, const Bytes& data) { return static_cast<std::size_t>(random->Below(data.size())); }

std::pair<const isa::Field*, std::size_t> Fields(const std::uint8_t* instruction) {
  switch (static_cast<isa::Opcode>(isa::GetOpcode(instruction))) {
    case isa::Opcode::kLoad:
      return {isa::kLoadFields, std::size(isa::kLoadFields)};
    case isa::Opcode::kMatrix:
      return {isa::kMatrixFields, std::size(isa::kMatrixFields)};
    case isa::Opcode::kVector:
      return {isa::kVectorFields, std::size(isa::kVectorFields)};
    case isa::Opcode::kStore:
      return {isa::kStoreFields, std::size(isa::kStoreFields)};
    case isa::Opcode::kFinish:
      return {isa::kFinishFields, std::size(isa::kFinishFields)};
  }
  return {nullptr, 0};
}

void SetBits(std::uint8_t* bytes, int offset, int width, std::uint64_t value) {
  for (int i = 0; i < width; ++i) {
    const int at = offset + i;
    bytes[at / 8] = static_cast<std::uint8_t>((bytes[at / 8] & ~(1u << (at % 8))) | (value >> i & 1) << (at % 8));
  }
}

Bytes WithHead(std::uint32_t version, std::uint32_t count, std::uint64_t size, const Bytes& table, const Bytes& body) {
  Bytes file = {0x89, 'T', 'W', 'P', '\r', '\n', 0x1a, '\n'};
  Put(&file, version, 4);
  Put(&file, count, 4);
  Put(&file, size, 8);
  runtime::Sha256 sum;
  sum.Add(file.data(), file.size());
  sum.Add(table.data(), table.size());
  const auto digest = sum.Digest();
  file.insert(file.end(), digest.begin(), digest.end());
  file.insert(file.end(), table.begin(), table.end());
  file.insert(file.end(), body.begin(), body.end());
  return file;
}

// The table or the head wrong, their checksum right.
Bytes MutateTable(Random* random, const Bytes& file) {
  const std::size_t count = static_cast<std::size_t>(Number(&file[12], 4)), end = kHead + kDigest + count * kEntry;
  Bytes table(file.begin() + kHead + kDigest, file.begin() + static_cast<std::ptrdiff_t>(end));
  const Bytes body(file.begin() + static_cast<std::ptrdiff_t>(end), file.end());
  std::uint64_t claimed = count, size = file.size();
  if (random->Chance(70)) MutateBytes(random, &table);
  if (random->Chance(20)) claimed = Interesting(random);
  if (random->Chance(20)) size = Interesting(random);
  return WithHead(3, static_cast<std::uint32_t>(claimed), size, table, body);
}

}  // namespace

std::vector<Section> Split(const Bytes& file) {
  std::vector<Section> sections;
  const std::size_t count = static_cast<std::size_t>(Number(&file[12], 4));
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t* entry = &file[kHead + kDigest + i * kEntry];
    const std::uint64_t offset = Number(entry + kName, 8), size = Number(entry + kName + 8, 8);
    const auto* name = reinterpret_cast<const char*>(entry);
    sections.push_back({std::string(name, strnlen(name, kName)), Bytes(file.data() + offset, file.data() + offset + size)});
  }
  return sections;
}

Bytes Join(const std::vector<Section>& sections) {
  Bytes table, body;
  const std::size_t start = kHead + kDigest + sections.size() * kEntry;
  for (const Section& section : sections) {
    std::string name = section.name;
    name.resize(kName);
    table.insert(table.end(), name.begin(), name.end());
    Put(&table, start + body.size(), 8);
    Put(&table, section.data.size(), 8);
    const auto digest = runtime::Sha256Of(section.data.data(), section.data.size());
    table.insert(table.end(), digest.begin(), digest.end());
    body.insert(body.end(), section.data.begin(), section.data.end());
  }
  return WithHead(3, static_cast<std::uint32_t>(sections.size()), start + body.size(), table, body);
}

void MutateBytes(Random* random, Bytes* data) {
  for (std::uint64_t n = 1 + random->Below(3); n > 0; --n) {
    if (data->empty()) {
      Put(data, Interesting(random), 8);
      continue;
    }
    const std::size_t at = Place(random, *data);
    const auto begin = data->begin() + static_cast<std::ptrdiff_t>(at);
    switch (random->Below(7)) {
      case 0:
        *begin = static_cast<std::uint8_t>(*begin ^ 1u << random->Below(8));
        break;
      case 1:
        *begin = static_cast<std::uint8_t>(random->Below(256));
        break;
      case 2:
      case 3: {
        const std::size_t size = std::size_t{2} << random->Below(3);
        const std::uint64_t value = Interesting(random);
        for (std::size_t i = 0; i < size && at + i < data->size(); ++i) (*data)[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
        break;
      }
      case 4: {
        const std::size_t size = std::min<std::size_t>(1 + random->Below(random->Chance(50) ? 8 : 64), data->size() - at);
        data->erase(begin, begin + static_cast<std::ptrdiff_t>(size));
        break;
      }
      case 5: {
        const std::size_t from = Place(random, *data);
        const Bytes part(data->begin() + static_cast<std::ptrdiff_t>(from),
                         data->begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(from + 1 + random->Below(16), data->size())));
        data->insert(begin, part.begin(), part.end());
        break;
      }
      default:
        if (random->Chance(30)) data->erase(begin, data->end());
        *(data->empty() ? data->insert(data->end(), 0) : data->begin() + static_cast<std::ptrdiff_t>(Place(random, *data))) =
            static_cast<std::uint8_t>(random->Below(256));
    }
  }
}

void MutateStream(Random* random, Bytes* stream) {
  const std::size_t count = stream->size() / isa::kInstructionBytes;
  if (count == 0 || random->Chance(10)) return MutateBytes(random, stream);
  for (std::uint64_t n = 1 + random->Below(4); n > 0; --n) {
    std::uint8_t* instruction = stream->data() + random->Below(count) * isa::kInstructionBytes;
    if (random->Chance(10)) {
      const std::uint8_t* other = stream->data() + random->Below(count) * isa::kInstructionBytes;
      std::memmove(instruction, other, isa::kInstructionBytes);
      continue;
    }
    const auto [fields, size] = Fields(instruction);
    if (size == 0) return;
    const isa::Field& field = fields[random->Below(size)];
    const std::int64_t old = field.is_signed ? isa::GetSigned(instruction, field.offset, field.width)
                                             : static_cast<std::int64_t>(isa::GetBits(instruction, field.offset, field.width));
    std::int64_t value = 0;
    switch (random->Below(5)) {
      case 0:
        value = old + static_cast<std::int64_t>(random->Below(5)) - 2;
        break;
      case 1:
        value = random->Chance(50) ? field.lo : field.hi;
        break;
      case 2:
        value = field.lo + static_cast<std::int64_t>(random->Below(static_cast<std::uint64_t>(field.hi - field.lo) + 1));
        break;
      case 3:
        value = field.lo + static_cast<std::int64_t>(random->Below(std::min<std::uint64_t>(16, static_cast<std::uint64_t>(field.hi - field.lo) + 1)));
        break;
      default:
        value = static_cast<std::int64_t>(Interesting(random));
    }
    SetBits(instruction, field.offset, field.width, static_cast<std::uint64_t>(value));
  }
}

Bytes MutatePackage(Random* random, const Bytes& file) {
  if (random->Chance(8)) {
    Bytes changed = file;
    MutateBytes(random, &changed);
    return changed;
  }
  if (random->Chance(8)) return MutateTable(random, file);
  std::vector<Section> sections = Split(file);
  for (std::uint64_t n = random->Chance(85) ? 1 : 2; n > 0; --n) {
    const std::size_t at = static_cast<std::size_t>(random->Below(sections.size()));
    Section& section = sections[at];
    const auto ends = [&](const char* tail) {
      return section.name.size() > std::strlen(tail) && section.name.substr(section.name.size() - std::strlen(tail)) == tail;
    };
    if (random->Chance(3)) {
      sections.erase(sections.begin() + static_cast<std::ptrdiff_t>(at));
    } else if (random->Chance(2)) {
      const Section copy = section;
      sections.insert(sections.begin() + static_cast<std::ptrdiff_t>(Place(random, Bytes(sections.size()))), copy);
    } else if (random->Chance(2)) {
      section.name[random->Below(section.name.size())] ^= 1;
    } else if (ends("/stream")) {
      MutateStream(random, &section.data);
    } else {
      MutateBytes(random, &section.data);
    }
  }
  return Join(sections);
}

}  // namespace tilewright::fuzz
