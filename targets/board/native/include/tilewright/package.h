// The package file (targets/package.py): its container, its documents and whether its parts belong together.
#ifndef TILEWRIGHT_PACKAGE_H_
#define TILEWRIGHT_PACKAGE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tilewright/program.h"
#include "tilewright/runtime_c.h"

namespace tilewright::runtime {

struct Package {
  std::string name, overlay, overlay_hash;
  Program interface;  // tensors, inputs and outputs; the rest was checked and is gone
  // Within the bytes that it was read from: the host part, and of each region its record, stream and constants.
  tw_rt_bytes program{};
  std::vector<std::array<tw_rt_bytes, 3>> regions;

  // Refuses what Python's Package.load refuses, but for the rules of what an overlay may be (Overlay.from_dict): those are the
  // simulator's and the device's. Throws Error TW_RT_PACKAGE. The package refers to `data`.
  static Package Parse(const std::uint8_t* data, std::uint64_t size);
};

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_PACKAGE_H_
