#include "tilewright/package.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>

#include "isa.h"
#include "json.h"
#include "reader.h"
#include "sha256.h"
#include "tilewright/region.h"
#include "tilewright/registers.h"

namespace tilewright::runtime {
namespace {

constexpr char kMagic[] = {'\x89', 'T', 'W', 'P', '\r', '\n', '\x1a', '\n'};
constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kHead = 24, kDigest = 32, kName = 32, kEntry = kName + 8 + 8 + kDigest;
constexpr char kAgain[] = "; copy the file again, or compile again";
// Of ACC: two halves of 512 (ACC_HALVES, ACC_HALF_VECTORS in targets/config.py).
constexpr std::int64_t kAccVectors = 1024;

using Sections = std::map<std::string, tw_rt_bytes>;

std::string_view Text(const tw_rt_bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data), static_cast<std::size_t>(bytes.size)};
}

// Sections by name, each checked against its checksum.
Sections Split(const std::uint8_t* data, std::uint64_t size) {
  Require(size >= sizeof kMagic && std::memcmp(data, kMagic, sizeof kMagic) == 0,
          "not a Tilewright package: expected a .twp file");
  Require(size >= kHead + kDigest, "truncated: ", size, " bytes do not hold the header", kAgain);
  Reader head(data + sizeof kMagic, kHead - sizeof kMagic, "header");
  const auto version = head.Number<std::uint32_t>(), count = head.Number<std::uint32_t>();
  const auto expected = head.Number<std::uint64_t>();
  Require(version == 0 || version == kVersion, "format version ", version, ": this runtime reads ", kVersion,
          version > kVersion ? "; update Tilewright, or compile again" : "; compile again");
  Require(size >= expected, "truncated: expected ", expected, " bytes, found ", size, kAgain);
  Require(size <= expected, "expected ", expected, " bytes, found ", size, ": something follows", kAgain);
  const std::uint64_t start = kHead + kDigest;
  std::uint64_t end = start + count * kEntry;  // count has 32 bits: no overflow
  Sha256 sum;
  sum.Add(data, kHead);
  if (end <= size) sum.Add(data + start, end - start);
  Require(end <= size && version == kVersion && std::memcmp(sum.Digest().data(), data + kHead, kDigest) == 0,
          "the header or section table is damaged (checksum)", kAgain);
  Reader table(data + start, end - start, "section table");
  Sections sections;
  std::string damaged;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string name(reinterpret_cast<const char*>(table.Raw(kName)), kName);
    name.erase(name.find_last_not_of('\0') + 1);
    const auto offset = table.Number<std::uint64_t>(), length = table.Number<std::uint64_t>();
    const std::uint8_t* digest = table.Raw(kDigest);
    Require(offset == end && length <= size - offset && sections.count(name) == 0, "section '", name,
            "' lies wrong or occurs twice", kAgain);
    end = offset + length;
    sections[name] = {data + offset, length};
    if (std::memcmp(Sha256Of(data + offset, length).data(), digest, kDigest) != 0) {
      damaged += (damaged.empty() ? "" : "\n") + ("section " + name) + ": is damaged (checksum)" + kAgain;
    }
  }
  Require(damaged.empty(), damaged);
  Require(end == size, size - end, " bytes belong to no section", kAgain);
  return sections;
}

// Takes a section out; null where it is not there.
bool Take(Sections* sections, const std::string& name, tw_rt_bytes* out) {
  const auto found = sections->find(name);
  if (found == sections->end()) return false;
  *out = found->second;
  sections->erase(found);
  return true;
}

tw_rt_bytes Needed(Sections* sections, const std::string& name) {
  tw_rt_bytes bytes{};
  Require(Take(sections, name, &bytes), "section ", name, ": is missing; compile again");
  return bytes;
}

Json Document(const tw_rt_bytes& bytes, const std::string& name, Json::Kind kind, bool keep) {
  const std::string where = "section " + name;
  Json value = Json::Parse(Text(bytes), where, keep);
  Require(value.kind == kind, where, ": expected a ", KindName(kind), ", found ", KindName(value.kind));
  return value;
}

const Json& Field(const Json& document, const char* key, Json::Kind kind, const char* section) {
  const auto found = document.members.find(key);
  Require(found != document.members.end() && found->second.kind == kind, "section ", section, ": expected a ",
          KindName(kind), " as '", key, "'");
  return found->second;
}

// Overlay.identity of targets/config.py: all fields but the descriptions, the board's behind `board.`.
Json IdentityOf(const Json& configuration) {
  Json flat;
  flat.kind = Json::kObject;
  for (const auto& [key, value] : configuration.members) {
    if (key == "board") {
      for (const auto& [name, of_board] : value.members) {
        if (name != "description") flat.members["board." + name] = of_board;
      }
    } else if (key != "description") {
      flat.members[key] = value;
    }
  }
  return flat;
}

std::int64_t Number(const Json& document, const char* key) {
  const std::string& text = Field(document, key, Json::kInteger, "overlay").text;
  Require(text.size() <= 9, "section overlay: ", key, " is ", text.substr(0, 40));
  return static_cast<std::int64_t>(std::stoll(text));
}

// What CONFIG of a device with the overlay holds (config_words of targets/registers.py).
std::vector<std::uint32_t> ConfigWords(const Json& identity, const std::array<std::uint8_t, 32>& hash) {
  std::vector<std::uint8_t> bytes(hash.begin(), hash.end());
  for (const registers::ConfigField& field : registers::kConfigFields) {
    const std::size_t end = bytes.size() + 4 * static_cast<std::size_t>(field.words);
    if (field.text) {
      const std::string& text = Field(identity, field.name, Json::kString, "overlay").text;
      bytes.insert(bytes.end(), text.begin(), text.end());
    } else {
      const std::int64_t value = Number(identity, field.name);
      for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<std::uint8_t>(value >> shift));
    }
    bytes.resize(end);
  }
  Reader words(bytes.data(), bytes.size(), "overlay");
  std::vector<std::uint32_t> found(bytes.size() / 4);
  for (std::uint32_t& word : found) word = words.Number<std::uint32_t>();
  return found;
}

// What decides results of an overlay, by its fields and by what follows from them (MACHINE_FIELDS in targets/program.py).
using Machine = std::vector<std::pair<const char*, std::int64_t>>;

Machine MachineOf(const Json& configuration) {
  const auto number = [&](const char* key) { return Number(configuration, key); };
  const std::int64_t in = number("block_in"), out = number("block_out"), inp = number("inp_bits"),
                     wgt = number("wgt_bits");
  Require(in > 0 && out > 0 && inp > 0 && wgt > 0, "section overlay: blocks of ", in, " and ", out, ", operands of ", inp,
          " and ", wgt, " bits");
  const std::int64_t half_word = in * inp / 8, tile = out * wgt * in / 8;
  Require(half_word > 0 && tile > 0, "section overlay: half words of ", half_word, " bytes, tiles of ", tile);
  return {{"block_in", in},
          {"block_out", out},
          {"inp_bits", inp},
          {"wgt_bits", wgt},
          {"acc_bits", number("acc_bits")},
          {"act_half_words", number("act_kib") * 1024 / half_word},
          {"wgt_tiles", number("wgt_kib") * 1024 / tile},
          {"acc_vectors", kAccVectors},
          {"param_records", number("param_kib") * 1024 / isa::kRecordBytes},
          {"disp_entries", number("disp_entries")},
          {"displacement_min", number("displacement_min")},
          {"displacement_max", number("displacement_max")}};
}

// Whether a region was made for the overlay.
void CheckMachine(const Region& region, const Machine& machine, const std::string& overlay) {
  const Overlay& m = region.machine;
  const std::int32_t found[] = {m.block_in,       m.block_out,    m.inp_bits,         m.wgt_bits,
                                m.acc_bits,       m.act_half_words, m.wgt_tiles,      m.acc_vectors,
                                m.param_records,  m.disp_entries, m.displacement_min, m.displacement_max};
  for (std::size_t i = 0; i < machine.size(); ++i) {
    Require(found[i] == machine[i].second, "region ", region.name, ": made for ", machine[i].first, " ", found[i],
            ", overlay ", overlay, " has ", machine[i].second);
  }
}

}  // namespace

Package Package::Parse(const std::uint8_t* data, std::uint64_t size) {
  Sections sections = Split(data, size);
  Package package;
  const Json overlay = Document(Needed(&sections, "overlay"), "overlay", Json::kObject, true);
  const Json& configuration = Field(overlay, "configuration", Json::kObject, "overlay");
  package.overlay = Field(configuration, "name", Json::kString, "overlay").text;
  package.overlay_hash = Field(overlay, "hash", Json::kString, "overlay").text;
  Field(configuration, "board", Json::kObject, "overlay");
  const Json identity = IdentityOf(configuration);
  const std::string text = identity.Canonical();
  const auto digest = Sha256Of(text.data(), text.size());
  const std::string own = Hex(digest);
  Require(own == package.overlay_hash, "section overlay: hash ", package.overlay_hash,
          " is not that of its configuration, ", own);
  const Machine machine = MachineOf(configuration);
  const std::vector<std::uint32_t> config = ConfigWords(identity, digest);
  const Json info = Document(Needed(&sections, "info"), "info", Json::kObject, true);
  package.program = Needed(&sections, "program");
  for (;;) {
    const std::string name = "region/" + std::to_string(package.regions.size());
    std::array<tw_rt_bytes, 3> parts{};
    if (!Take(&sections, name, &parts[0])) break;
    Require(Take(&sections, name + "/stream", &parts[1]) && Take(&sections, name + "/constants", &parts[2]), "section ",
            name, ": stream or constants are missing");
    const Region region = Region::Parse(parts[0].data, parts[0].size, {}, {});
    CheckMachine(region, machine, package.overlay);
    Require(region.overlay == config, "region ", region.name, ": made for another overlay than ", package.overlay);
    package.regions.push_back(parts);
  }
  tw_rt_bytes bytes{};
  for (const char* name : {"preprocess", "plan"}) {
    if (Take(&sections, name, &bytes)) Document(bytes, name, Json::kObject, false);
  }
  if (Take(&sections, "labels", &bytes)) {
    const Json labels = Document(bytes, "labels", Json::kArray, true);
    const auto text = [](const Json& label) { return label.kind == Json::kString; };
    Require(std::all_of(labels.items.begin(), labels.items.end(), text), "section labels: expected a list of texts");
  }
  package.name = Field(info, "name", Json::kString, "info").text;
  Field(info, "tool_version", Json::kString, "info");
  for (const char* key : {"random_weights", "random_calibration", "stripped"}) Field(info, key, Json::kBool, "info");
  Document(Needed(&sections, "report"), "report", Json::kObject, false);
  for (const char* name : {"float_model", "quantised_model"}) Take(&sections, name, &bytes);
  std::string unknown;
  for (const auto& section : sections) unknown += (unknown.empty() ? "" : ", ") + section.first;
  Require(unknown.empty(), "unknown sections: ", unknown, "; update Tilewright");

  package.interface =
      Program::Parse(package.program.data, package.program.size, static_cast<std::uint32_t>(package.regions.size()));
  package.interface.constants.clear();
  package.interface.steps.clear();
  return package;
}

}  // namespace tilewright::runtime
