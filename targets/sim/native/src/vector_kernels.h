// The inner loops of VECTOR, compiled once for each instruction set of the host.
#ifndef TILEWRIGHT_SRC_VECTOR_KERNELS_H_
#define TILEWRIGHT_SRC_VECTOR_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "tilewright/simulator.h"

namespace tilewright {

enum class TapMode : int { kSum = 0, kMax = 1, kDepthwise = 2 };

// One tap of the windows of `n` pixels: v[p][lane] (op)= value(p, lane).
struct TapArgs {
  std::int32_t* v;           // [n][lanes]
  const std::uint8_t* act;   // lanes of pixel 0; null: `acc` is read
  const std::uint8_t* high;  // second plane, or null
  const std::int32_t* acc;
  std::ptrdiff_t pitch;  // lanes from one pixel to the next
  int n, lanes;
  int held_shift;               // held values are shifted left by this
  int inp_bits;                 // of the low plane
  int acc_shift;                // 32 - acc_bits, to extend the sign of a sum
  std::int32_t zero_point;      // subtracted from each value; 0 for kMax
  const std::int16_t* weights;  // [lanes], kDepthwise
};

enum class RequantMode : int { kPlain = 0, kScaledAdd = 1, kMultiply = 2, kNegative = 3 };

// y[p][lane] = clamp(rne(p(v, w), s), lo, hi), see isa/spec.py.
struct RequantArgs {
  const std::int32_t *v, *w;   // [n][lanes]; w for kScaledAdd and kMultiply
  const std::int32_t *m, *m2;  // [lanes]
  const std::int64_t *b, *b2, *s;
  std::int32_t* y;  // [n][lanes]
  int n, lanes;
  std::int32_t lo, hi, out_zp;
};

struct VectorKernels {
  void (*tap[3])(const TapArgs&);             // by TapMode
  void (*requantise[4])(const RequantArgs&);  // by RequantMode
};

const VectorKernels& VectorKernelsFor(SimdLevel level);

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_VECTOR_KERNELS_H_
