#include "vector_kernels.h"

#include <algorithm>

#if defined(__GNUC__) || defined(__clang__)
#define TW_INLINE inline __attribute__((always_inline))
#else
#define TW_INLINE inline
#endif

namespace tilewright {
namespace {

// p / 2^s rounded half to even, 1 <= s <= 62, |p| < 2^61: adding just below a half, and the last bit of the
// quotient, carries exactly where rounding goes up. (targets/arithmetic.py compares remainders instead.)
TW_INLINE std::int64_t RoundHalfEven(std::int64_t p, std::int64_t s) {
  const std::int64_t below_half = (std::int64_t{1} << (s - 1)) - 1;
  return (p + below_half + (p >> s & 1)) >> s;
}

template <TapMode kMode>
TW_INLINE void Apply(std::int32_t* v, std::int32_t value, std::int32_t weight) {
  if (kMode == TapMode::kMax) {
    *v = std::max(*v, value);
  } else {
    const std::uint32_t product = kMode == TapMode::kDepthwise
                                      ? static_cast<std::uint32_t>(value) * static_cast<std::uint32_t>(weight)
                                      : static_cast<std::uint32_t>(value);
    *v = static_cast<std::int32_t>(static_cast<std::uint32_t>(*v) + product);
  }
}

// kLanes 0: as `a` says.
template <TapMode kMode, int kLanes>
TW_INLINE void TapLanes(const TapArgs& a) {
  const int lanes = kLanes ? kLanes : a.lanes;
  const std::int16_t* weights = a.weights;
  for (int p = 0; p < a.n; ++p) {
    std::int32_t* v = a.v + static_cast<std::ptrdiff_t>(p) * lanes;
    if (a.acc) {
      const std::int32_t* from = a.acc + p * a.pitch;
      for (int l = 0; l < lanes; ++l) {
        const std::int32_t value =
            static_cast<std::int32_t>(static_cast<std::uint32_t>(from[l]) << a.acc_shift) >> a.acc_shift;
        const std::uint32_t centred =
            static_cast<std::uint32_t>(value) - static_cast<std::uint32_t>(a.zero_point);
        Apply<kMode>(v + l, static_cast<std::int32_t>(centred),
                     kMode == TapMode::kDepthwise ? weights[l] : 1);
      }
    } else if (a.high) {
      const std::uint8_t *from = a.act + p * a.pitch, *high = a.high + p * a.pitch;
      for (int l = 0; l < lanes; ++l) {
        const std::int32_t value = (from[l] >> a.held_shift) + ((high[l] >> a.held_shift) << a.inp_bits);
        Apply<kMode>(v + l, value - a.zero_point, kMode == TapMode::kDepthwise ? weights[l] : 1);
      }
    } else {
      const std::uint8_t* from = a.act + p * a.pitch;
      for (int l = 0; l < lanes; ++l)
        Apply<kMode>(v + l, (from[l] >> a.held_shift) - a.zero_point,
                     kMode == TapMode::kDepthwise ? weights[l] : 1);
    }
  }
}

template <TapMode kMode>
TW_INLINE void Tap(const TapArgs& a) {
  // A constant number of lanes lets the compiler drop loop set-up, which is most of the work for 16 lanes.
  if (a.lanes == 16) return TapLanes<kMode, 16>(a);
  if (a.lanes == 32) return TapLanes<kMode, 32>(a);
  TapLanes<kMode, 0>(a);
}

template <RequantMode kMode>
TW_INLINE void Requantise(const RequantArgs& a) {
  const std::int64_t lo = a.lo, hi = a.hi, out_zp = a.out_zp;
  for (int p = 0; p < a.n; ++p) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(p) * a.lanes;
    for (int l = 0; l < a.lanes; ++l) {
      const std::int64_t v = a.v[at + l], m = a.m[l], s = a.s[l];
      std::int64_t sum = v * m + a.b[l];
      if (kMode == RequantMode::kScaledAdd) sum += static_cast<std::int64_t>(a.w[at + l]) * a.m2[l];
      if (kMode == RequantMode::kMultiply) sum = v * a.w[at + l] * m + a.b[l];
      if (kMode == RequantMode::kNegative) {
        // sum < out_zp << s, without the shift, which could overflow.
        const std::int64_t other = v * a.m2[l] + a.b2[l];
        sum = (sum >> s) < out_zp ? other : sum;
      }
      a.y[at + l] = static_cast<std::int32_t>(std::min(std::max(RoundHalfEven(sum, s), lo), hi));
    }
  }
}

#define TW_VECTOR_KERNELS(NAME, ATTRIBUTE)                                                  \
  template <TapMode kMode>                                                                  \
  ATTRIBUTE void Tap##NAME(const TapArgs& a) {                                              \
    Tap<kMode>(a);                                                                          \
  }                                                                                         \
  template <RequantMode kMode>                                                              \
  ATTRIBUTE void Requantise##NAME(const RequantArgs& a) {                                   \
    Requantise<kMode>(a);                                                                   \
  }                                                                                         \
  constexpr VectorKernels k##NAME = {                                                       \
      {Tap##NAME<TapMode::kSum>, Tap##NAME<TapMode::kMax>, Tap##NAME<TapMode::kDepthwise>}, \
      {Requantise##NAME<RequantMode::kPlain>, Requantise##NAME<RequantMode::kScaledAdd>,    \
       Requantise##NAME<RequantMode::kMultiply>, Requantise##NAME<RequantMode::kNegative>}};

TW_VECTOR_KERNELS(Plain, )
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
TW_VECTOR_KERNELS(Avx2, __attribute__((target("avx2"))))
TW_VECTOR_KERNELS(Avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#endif

}  // namespace

const VectorKernels& VectorKernelsFor(SimdLevel level) {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  if (level == SimdLevel::kAvx512 || level == SimdLevel::kAvx512Vnni) return kAvx512;
  if (level == SimdLevel::kAvx2 || level == SimdLevel::kAvxVnni) return kAvx2;
#else
  static_cast<void>(level);
#endif
  return kPlain;
}

}  // namespace tilewright
