// An accelerator region: stream, constants, memory map (targets/region.py), and its tensors' way in and out.
#ifndef TILEWRIGHT_REGION_H_
#define TILEWRIGHT_REGION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tilewright/simulator.h"
#include "tilewright/tensor.h"

namespace tilewright::runtime {

// Which columns of a tensor lie in the lanes of a pixel; see Packing in targets/region.py. One that is not packed has its
// own rows and columns and one tap.
struct Packing {
  std::int32_t columns = 1, rows = 1, taps = 1, stride = 1, dilation = 1, offset = 0, top = 0, fill = 0;
};

// How a tensor lies in the input or output segment; see MapLayout in targets/region.py. The images of a batch lie one
// behind the other.
struct MapLayout {
  std::string name;
  DType type = DType::kInt8;
  Shape shape;
  std::uint64_t offset = 0;  // bytes
  int bits = 8;
  std::vector<std::int32_t> lanes;
  Packing packing;

  std::int64_t channels() const { return shape[1]; }
  std::int64_t height() const { return shape.size() == 4 ? shape[2] : 1; }  // of the tensor
  std::int64_t width() const { return shape.size() == 4 ? shape[3] : 1; }
  std::int64_t pixels() const { return std::int64_t{packing.rows} * packing.columns; }  // as stored
  bool is_signed() const { return type == DType::kInt8 || type == DType::kInt16; }
  // What a stored number lies above its value.
  int value_offset() const { return is_signed() && bits > 1 ? 1 << (bits - 1) : 0; }
  std::uint64_t bytes(int inp_bits) const {
    return (static_cast<std::uint64_t>(pixels()) * lanes.size() * static_cast<unsigned>(inp_bits) + 7) / 8;
  }
};

struct Region {
  std::string name;
  std::uint32_t index = 0;  // in its program
  Overlay machine{};
  std::vector<std::uint32_t> overlay;  // what CONFIG of its device holds (registers.h)
  std::uint32_t batch = 1;  // images that a launch works on
  std::uint64_t workspace_bytes = 0, input_bytes = 0, output_bytes = 0;
  std::vector<std::string> layers;
  std::vector<std::uint32_t> layer_of;
  std::vector<MapLayout> inputs, outputs;
  std::vector<std::uint8_t> stream, constants;

  // Reads a region's record (targets/program.py) and checks everything that packing relies on. Throws Error.
  static Region Parse(const std::uint8_t* record, std::uint64_t size, std::vector<std::uint8_t> stream,
                      std::vector<std::uint8_t> constants);
};

// Writes NCHW or (1, K) values into `segment` as the map and its packing say; other lanes become 0. Throws Error TW_RT_DATA where
// a value does not fit the map's bits. `data` holds the map's element type.
void Pack(const MapLayout& map, int inp_bits, const std::uint8_t* data, std::uint8_t* segment);
// The way back.
void Unpack(const MapLayout& map, int inp_bits, const std::uint8_t* segment, std::uint8_t* data);

class Device;
class Placement;

// Packs, runs, unpacks. `inputs` and `outputs` are row-major tensors in the map's order and types, those of the first image,
// then those of the next; one runner serves one region, not from two threads at once.
class RegionRunner {
 public:
  RegionRunner(Region region, std::uint32_t index);
  ~RegionRunner();
  const Region& region() const { return region_; }
  // Throws Error where it was not placed.
  void Run(const std::vector<const std::uint8_t*>& inputs, const std::vector<std::uint8_t*>& outputs, tw_rt_stats* stats);

 private:
  friend void PlaceAll(const std::vector<RegionRunner*>& runners, Device* device);
  Region region_;
  std::unique_ptr<Placement> placement_;
};

// Moves the regions of a program to a device; where that fails (throws Error) they stay where they were.
void PlaceAll(const std::vector<RegionRunner*>& runners, Device* device);

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_REGION_H_
