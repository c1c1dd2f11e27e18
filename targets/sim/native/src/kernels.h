// The inner loop of MATRIX, once for each instruction set of the host.
//
// A kernel multiplies a *panel* of activations (a few output pixels, all steps of the sum) with packed tiles
// and keeps the sums in registers. Both are read in *quads* of four 32-bit words; one word holds the operands
// of one dot product: four u8 x s8, two s16 x s16, or one s32 x s32.
//   panel  [step][quad][pixel][4]
//   tile   [sub-block of 16 outputs][quad][4][16]
#ifndef TILEWRIGHT_SRC_KERNELS_H_
#define TILEWRIGHT_SRC_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "tilewright/simulator.h"

namespace tilewright {

// Operands in a word. The narrowest that holds an instruction's weights is used.
enum class Dot : int { k4 = 0, k2 = 1, k1 = 2 };
inline constexpr int kDotLanes[] = {4, 2, 1};

inline constexpr int kSubBlock = 16;   // outputs of one sub-block
inline constexpr int kMaxPixels = 14;  // of any kernel

struct GemmArgs {
  const std::int32_t* panel;
  const std::int32_t* tiles;       // packed tiles
  const std::size_t* tile_offset;  // of each step, in words
  int steps;
  int quads;
  int sub_blocks;
  const std::int32_t* init;  // [sub_blocks * 16], what each sum starts from
  std::int32_t* const* acc;  // for each pixel: [sub_blocks * 16]
  bool add;                  // to what is in `acc`, else overwrite it
  int shift;                 // left shift of the sum
};

using GemmKernel = void (*)(const GemmArgs&);

struct KernelSet {
  int max_pixels;                      // of one call
  GemmKernel kernels[kMaxPixels + 1];  // by pixels, 1 .. max_pixels
};

// The kernels for a level; `dot` is widened to what the level has, see KernelDot.
const KernelSet& Kernels(SimdLevel level, Dot dot, int sub_blocks);
Dot KernelDot(SimdLevel level, Dot dot);

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_KERNELS_H_
