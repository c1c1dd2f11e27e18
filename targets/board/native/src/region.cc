#include "tilewright/region.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "reader.h"
#include "tilewright/device.h"

namespace tilewright::runtime {
namespace {

constexpr char kMagic[] = {'T', 'W', 'R', 'G', 5, 0};

// ceil(a / b) for b > 0.
std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }

// The packing behind a map's lanes, or that of a map without one.
Packing ParsePacking(Reader* r, const MapLayout& map, const std::string& where, bool output) {
  const int present = r->Number<std::uint8_t>();
  Require(present <= 1, where, ": expected 0 or 1 before a packing, found ", present);
  Packing p;
  p.columns = static_cast<std::int32_t>(map.width());
  p.rows = static_cast<std::int32_t>(map.height());
  if (present == 0) return p;
  Require(!output && map.shape.size() == 4, where, ": only an input of rank 4 can be packed");
  for (std::int32_t* field : {&p.columns, &p.rows, &p.taps, &p.stride, &p.dilation, &p.offset, &p.top, &p.fill}) {
    *field = r->Number<std::int32_t>();
  }
  Require(p.columns > 0 && p.rows > 0 && p.taps > 0 && p.stride > 0 && p.dilation > 0, where,
          ": expected a packing's columns, rows, taps, stride and dilation above 0, found ", p.columns, ", ", p.rows,
          ", ", p.taps, ", ", p.stride, " and ", p.dilation);
  Require(p.columns <= static_cast<std::int64_t>(kMaxBytes) / p.rows, where, ": a packing of ", p.rows, " x ",
          p.columns, " pixels is above the limit of ", kMaxBytes);
  Require(p.fill >= 0 && p.fill < 1 << map.bits, where, ": a packing's fill of ", p.fill, " does not fit ", map.bits,
          " bits");
  return p;
}

std::vector<MapLayout> ParseMaps(Reader* r, const Region& region, std::uint64_t segment, bool output) {
  std::vector<MapLayout> maps(r->Count(1));
  for (MapLayout& map : maps) {
    map.name = r->Text();
    const int type = r->Number<std::uint8_t>();
    const std::string where = "region " + region.name + ", tensor " + map.name;
    map.type = static_cast<DType>(type);
    const bool narrow = map.type == DType::kInt8 || map.type == DType::kUint8;
    Require(narrow || map.type == DType::kInt16 || map.type == DType::kUint16, where,
            ": expected int8, uint8, int16 or uint16, found type ", type);
    map.shape.resize(r->Number<std::uint8_t>());
    Require(map.shape.size() == 2 || map.shape.size() == 4, where, ": expected rank 2 or 4, found ", map.shape.size());
    for (std::int64_t& dim : map.shape) dim = r->Number<std::int64_t>();
    Require(Elements(map.shape, 1) > 0 && map.shape[0] == 1, where, ": expected shape (1, C, H, W) or (1, K), found ",
            ShapeText(map.shape));
    map.offset = r->Number<std::uint64_t>();
    map.bits = r->Number<std::uint8_t>();
    Require((map.bits == 1 && map.is_signed()) || map.bits == 2 || map.bits == 4 || map.bits == 8 ||
                (map.bits == 16 && !narrow),
            where, ": expected 2, 4 or 8 bits, 1 of a signed type or 16 of one of 16 bits, found ", map.bits);
    map.lanes = r->Array<std::int32_t>();
    map.packing = ParsePacking(r, map, where, output);
    const auto block = static_cast<std::size_t>(region.machine.block_in);
    Require(!map.lanes.empty() && map.lanes.size() % block == 0, where, ": expected a multiple of ", block,
            " lanes, found ", map.lanes.size());
    const std::int64_t planes = CeilDiv(map.bits, region.machine.inp_bits);
    const std::int64_t held = planes * map.channels() * map.packing.taps;
    std::vector<char> present(output ? static_cast<std::size_t>(held) : 0, 0);
    for (std::int32_t lane : map.lanes) {
      Require(lane >= -1 && lane < held, where, ": lane holds channel ", lane, " of ", held);
      if (lane >= 0 && output) present[static_cast<std::size_t>(lane)] = 1;
    }
    Require(!output || std::count(present.begin(), present.end(), 0) == 0, where, ": a channel lies in no lane");
    // Pixels <= 2^30 and lanes <= 2^30, so the product fits 64 bits.
    const std::uint64_t bytes = map.bytes(region.machine.inp_bits);
    const std::string images = region.batch > 1 ? std::to_string(region.batch) + " times " : "";
    Require(map.offset <= segment && bytes <= (segment - map.offset) / region.batch, where, ": ", images, bytes,
            " bytes at ", map.offset, " pass the segment of ", segment);
    Require(map.offset % static_cast<unsigned>(region.machine.half_word_bytes()) == 0, where, ": offset ", map.offset,
            " is no multiple of the half word's ", region.machine.half_word_bytes(), " bytes");
  }
  return maps;
}

}  // namespace

Region Region::Parse(const std::uint8_t* record, std::uint64_t size, std::vector<std::uint8_t> stream,
                     std::vector<std::uint8_t> constants) {
  Reader r(record, size, "region");
  r.Expect(kMagic, sizeof kMagic);
  Region region;
  region.name = r.Text();
  Overlay& m = region.machine;
  for (std::int32_t* field : {&m.block_in, &m.block_out, &m.inp_bits, &m.wgt_bits, &m.acc_bits, &m.act_half_words,
                              &m.wgt_tiles, &m.acc_vectors, &m.param_records, &m.disp_entries, &m.displacement_min,
                              &m.displacement_max}) {
    *field = r.Number<std::int32_t>();
  }
  Require(m.inp_bits == 1 || m.inp_bits == 2 || m.inp_bits == 4 || m.inp_bits == 8, "region ", region.name,
          ": expected inp_bits of 1, 2, 4 or 8, found ", m.inp_bits);
  Require(m.block_in >= 8 && m.block_in <= 4096 && m.block_in % 8 == 0, "region ", region.name,
          ": expected block_in of 8 to 4096, a multiple of 8, found ", m.block_in);
  region.overlay = r.Array<std::uint32_t>();
  for (std::uint64_t* field : {&region.workspace_bytes, &region.input_bytes, &region.output_bytes}) {
    *field = r.Number<std::uint64_t>();
    Require(*field <= kMaxBytes, "region ", region.name, ": a segment of ", *field, " bytes is above the limit of ",
            kMaxBytes);
  }
  region.batch = r.Number<std::uint32_t>();
  Require(region.batch >= 1 && region.batch <= kMaxImages, "region ", region.name, ": expected a batch of 1 to ",
          kMaxImages, ", found ", region.batch);
  region.layers.resize(r.Count(2));
  for (std::string& layer : region.layers) layer = r.Text();
  region.layer_of = r.Array<std::uint32_t>();
  for (std::uint32_t layer : region.layer_of) {
    Require(layer < region.layers.size(), "region ", region.name, ": layer ", layer, " of ", region.layers.size());
  }
  r.Array<std::uint64_t>();  // products: only compilers read them
  r.Array<std::uint32_t>();
  region.inputs = ParseMaps(&r, region, region.input_bytes, false);
  region.outputs = ParseMaps(&r, region, region.output_bytes, true);
  r.End();
  region.stream = std::move(stream);
  region.constants = std::move(constants);
  return region;
}

namespace {

// A tensor's values as the machine stores them.
std::vector<std::uint16_t> Stored(const MapLayout& map, const std::uint8_t* data) {
  std::vector<std::uint16_t> stored(static_cast<std::size_t>(map.channels() * map.height() * map.width()));
  const int offset = map.value_offset(), largest = (1 << map.bits) - 1;
  const auto element = [&](std::size_t i) -> int {
    if (map.type == DType::kInt8) return static_cast<std::int8_t>(data[i]);
    if (map.type == DType::kUint8) return data[i];
    std::uint16_t value;
    std::memcpy(&value, data + 2 * i, sizeof value);
    return map.type == DType::kInt16 ? static_cast<std::int16_t>(value) : value;
  };
  for (std::size_t i = 0; i < stored.size(); ++i) {
    const int value = element(i);
    const int number = map.bits > 1 ? value + offset : value == 1 ? 1 : value == -1 ? 0 : -1;
    if (number < 0 || number > largest) {
      Fail(TW_RT_DATA, "tensor ", map.name, ": a value of ", value, " does not fit its ", map.bits, " bits");
    }
    stored[i] = static_cast<std::uint16_t>(number);
  }
  return stored;
}

}  // namespace

void Pack(const MapLayout& map, int inp_bits, const std::uint8_t* data, std::uint8_t* segment) {
  const Packing& p = map.packing;
  const std::int64_t height = map.height(), width = map.width(), rows = p.rows, columns = p.columns;
  const auto lanes = static_cast<std::int64_t>(map.lanes.size());
  const std::vector<std::uint16_t> stored = Stored(map, data);
  std::uint8_t* out = segment + map.offset;
  std::fill_n(out, map.bytes(inp_bits), std::uint8_t{0});
  const unsigned mask = (1u << inp_bits) - 1;
  for (std::int64_t l = 0; l < lanes; ++l) {
    const std::int64_t lane = map.lanes[static_cast<std::size_t>(l)];
    if (lane < 0) continue;
    const std::uint16_t* channel = &stored[static_cast<std::size_t>(lane % map.channels() * height * width)];
    const std::int64_t tap = lane / map.channels() % p.taps;
    const int shift = static_cast<int>(lane / map.channels() / p.taps) * inp_bits;
    // Whole bytes are written as they are; narrower values beside their neighbours.
    const auto put = [&](std::int64_t at, unsigned value) {
      const unsigned part = value >> shift & mask;
      if (inp_bits == 8) {
        out[at] = static_cast<std::uint8_t>(part);
      } else {
        const std::int64_t bit = at * inp_bits;
        out[bit / 8] = static_cast<std::uint8_t>(out[bit / 8] | (part << (bit % 8)));
      }
    };
    // Pixel x holds column first + x * stride: inside of the tensor from pixel `begin` to before `end`.
    const std::int64_t first = tap * p.dilation + p.offset;
    const std::int64_t begin = std::clamp(CeilDiv(-first, p.stride), std::int64_t{0}, columns);
    const std::int64_t end = std::clamp(CeilDiv(width - first, p.stride), begin, columns);
    for (std::int64_t y = 0; y < rows; ++y) {
      const std::int64_t to = y * columns * lanes + l;
      if (y + p.top < 0 || y + p.top >= height) {
        for (std::int64_t x = 0; x < columns; ++x) put(to + x * lanes, static_cast<unsigned>(p.fill));
        continue;
      }
      const std::uint16_t* from = channel + (y + p.top) * width;
      for (std::int64_t x = 0; x < begin; ++x) put(to + x * lanes, static_cast<unsigned>(p.fill));
      for (std::int64_t x = begin; x < end; ++x) put(to + x * lanes, from[first + x * p.stride]);
      for (std::int64_t x = end; x < columns; ++x) put(to + x * lanes, static_cast<unsigned>(p.fill));
    }
  }
}

void Unpack(const MapLayout& map, int inp_bits, const std::uint8_t* segment, std::uint8_t* data) {
  const std::int64_t pixels = map.pixels();
  const auto lanes = static_cast<std::int64_t>(map.lanes.size());
  const unsigned mask = (1u << inp_bits) - 1;
  const std::uint8_t* in = segment + map.offset;
  std::vector<std::uint16_t> stored(static_cast<std::size_t>(map.channels() * pixels));
  for (std::int64_t l = 0; l < lanes; ++l) {
    const std::int64_t lane = map.lanes[static_cast<std::size_t>(l)];
    if (lane < 0) continue;
    std::uint16_t* to = &stored[static_cast<std::size_t>(lane % map.channels() * pixels)];
    const int shift = static_cast<int>(lane / map.channels()) * inp_bits;
    for (std::int64_t p = 0; p < pixels; ++p) {
      const std::int64_t bit = (p * lanes + l) * inp_bits;
      to[p] = static_cast<std::uint16_t>(to[p] | ((in[bit / 8] >> (bit % 8) & mask) << shift));
    }
  }
  const bool wide = DTypeBytes(map.type) == 2;
  const int offset = map.value_offset();
  for (std::size_t i = 0; i < stored.size(); ++i) {
    const int value = map.bits == 1 ? 2 * stored[i] - 1 : stored[i] - offset;
    if (wide) {
      const auto element = static_cast<std::uint16_t>(value);
      std::memcpy(data + 2 * i, &element, sizeof element);
    } else {
      data[i] = static_cast<std::uint8_t>(value);
    }
  }
}

RegionRunner::RegionRunner(Region region, std::uint32_t index) : region_(std::move(region)) { region_.index = index; }
RegionRunner::~RegionRunner() = default;

void PlaceAll(const std::vector<RegionRunner*>& runners, Device* device) {
  std::vector<const Region*> regions;
  for (const RegionRunner* runner : runners) regions.push_back(&runner->region_);
  std::vector<std::unique_ptr<Placement>> placements = device->Place(regions);
  for (std::size_t i = 0; i < runners.size(); ++i) runners[i]->placement_ = std::move(placements[i]);
}

void RegionRunner::Run(const std::vector<const std::uint8_t*>& inputs, const std::vector<std::uint8_t*>& outputs,
                       tw_rt_stats* stats) {
  using Clock = std::chrono::steady_clock;
  const std::size_t operands = region_.inputs.size(), results = region_.outputs.size();
  if (inputs.size() != operands * region_.batch || outputs.size() != results * region_.batch) {
    Fail(TW_RT_INTERNAL, "region ", region_.name, ": ", inputs.size(), " operands and ", outputs.size(), " results");
  }
  if (placement_ == nullptr) Fail(TW_RT_INTERNAL, "region ", region_.name, " is on no device");
  const Clock::time_point start = Clock::now();
  const int bits = region_.machine.inp_bits;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const MapLayout& map = region_.inputs[i % operands];
    Pack(map, bits, inputs[i], placement_->inputs() + i / operands * map.bytes(bits));
  }
  // Bytes that a faulty stream leaves alone must not show an earlier run's results.
  std::fill_n(placement_->outputs(), region_.output_bytes, std::uint8_t{0});
  const Clock::time_point launch = Clock::now();
  placement_->Run(stats);
  const Clock::time_point end = Clock::now();
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const MapLayout& map = region_.outputs[i % results];
    Unpack(map, bits, placement_->outputs() + i / results * map.bytes(bits), outputs[i]);
  }
  stats->device_ns += std::chrono::nanoseconds(end - launch).count();
  stats->pack_ns += std::chrono::nanoseconds(launch - start + (Clock::now() - end)).count();
}

}  // namespace tilewright::runtime
