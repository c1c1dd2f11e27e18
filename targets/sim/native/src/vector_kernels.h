// The inner loops of VECTOR, compiled once for each instruction set of the host.
#ifndef TILEWRIGHT_SRC_VECTOR_KERNELS_H_
#define TILEWRIGHT_SRC_VECTOR_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "tilewright/simulator.h"

namespace tilewright {

enum class TapMode : int { kSum = 0, kMax = 1, kDepthwise = 2 };

// Where a tap of the window of the first pixel lies.
struct Tap {
  const std::uint8_t* act;      // lanes; null: `acc` is read
  const std::uint8_t* high;     // second plane where there are several, or null
  const std::int32_t* acc;
  const std::int16_t* weights;  // [lanes], kDepthwise
};

// The windows of `n` pixels: v[p][lane] = op over the taps of value(p, lane).
struct WindowArgs {
  std::int32_t* v;  // [n][lanes]
  const Tap* taps;
  int count;             // of taps, 1 or more
  std::ptrdiff_t pitch;  // lanes from one pixel to the next
  int n, lanes;
  int held_shift;           // held values are shifted left by this
  int inp_bits;             // of a plane
  int planes;               // of a value
  std::ptrdiff_t plane;     // lanes from one plane to the next
  int acc_shift;            // 32 - acc_bits, to extend the sign of a sum
  std::int32_t zero_point;  // subtracted from each value; 0 for kMax
};

enum class RequantMode : int { kPlain = 0, kScaledAdd = 1, kMultiply = 2, kNegative = 3 };

// y[p][lane] = clamp(rne(p(v, w), s), lo, hi), see isa/spec.py.
struct RequantArgs {
  const std::int32_t *v, *w;   // [n][lanes]; w for kScaledAdd and kMultiply
  std::ptrdiff_t v_pitch;      // of v, from one pixel to the next
  std::int32_t subtract;       // from v, which is then reduced to the low 32 - `wrap` bits, sign extended
  int wrap;
  const std::int32_t *m, *m2;  // [lanes]
  const std::int64_t *b, *b2, *s;
  std::int32_t* y;  // [n][lanes], where `bytes` is null
  std::uint8_t* bytes;  // of pixel 0: the low byte_bits of a result, held in a byte
  std::ptrdiff_t bytes_pitch;
  int byte_bits, held_shift;
  int n, lanes;
  std::int32_t lo, hi, out_zp;
};

struct VectorKernels {
  void (*window[3])(const WindowArgs&);       // by TapMode
  void (*requantise[4])(const RequantArgs&);  // by RequantMode
};

const VectorKernels& VectorKernelsFor(SimdLevel level);

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_VECTOR_KERNELS_H_
