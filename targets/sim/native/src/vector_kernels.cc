#include "vector_kernels.h"

#include <algorithm>
#include <limits>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define TW_X86 1
#include <immintrin.h>
#else
#define TW_X86 0
#endif
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

// One tap of all pixels. kLanes 0: as `a` says.
template <TapMode kMode, int kLanes>
TW_INLINE void AddTap(const WindowArgs& a, const Tap& tap) {
  const int lanes = kLanes ? kLanes : a.lanes;
  const std::int16_t* weights = tap.weights;
  for (int p = 0; p < a.n; ++p) {
    std::int32_t* v = a.v + static_cast<std::ptrdiff_t>(p) * lanes;
    if (tap.acc) {
      const std::int32_t* from = tap.acc + p * a.pitch;
      for (int l = 0; l < lanes; ++l) {
        const std::int32_t value =
            static_cast<std::int32_t>(static_cast<std::uint32_t>(from[l]) << a.acc_shift) >> a.acc_shift;
        const std::uint32_t centred =
            static_cast<std::uint32_t>(value) - static_cast<std::uint32_t>(a.zero_point);
        Apply<kMode>(v + l, static_cast<std::int32_t>(centred),
                     kMode == TapMode::kDepthwise ? weights[l] : 1);
      }
    } else if (tap.high) {
      const std::uint8_t *from = tap.act + p * a.pitch, *high = tap.high + p * a.pitch;
      for (int l = 0; l < lanes; ++l) {
        std::int32_t value = (from[l] >> a.held_shift) + ((high[l] >> a.held_shift) << a.inp_bits);
        for (int k = 2; k < a.planes; ++k)
          value += (high[(k - 1) * a.plane + l] >> a.held_shift) << k * a.inp_bits;
        Apply<kMode>(v + l, value - a.zero_point, kMode == TapMode::kDepthwise ? weights[l] : 1);
      }
    } else {
      const std::uint8_t* from = tap.act + p * a.pitch;
      for (int l = 0; l < lanes; ++l)
        Apply<kMode>(v + l, (from[l] >> a.held_shift) - a.zero_point,
                     kMode == TapMode::kDepthwise ? weights[l] : 1);
    }
  }
}

template <TapMode kMode>
TW_INLINE void Window(const WindowArgs& a) {
  std::fill_n(a.v, static_cast<std::ptrdiff_t>(a.n) * a.lanes,
              kMode == TapMode::kMax ? std::numeric_limits<std::int32_t>::min() : 0);
  for (int t = 0; t < a.count; ++t) {
    // A constant number of lanes lets the compiler drop loop set-up, which is most of the work for 16 lanes.
    if (a.lanes == 16)
      AddTap<kMode, 16>(a, a.taps[t]);
    else if (a.lanes == 32)
      AddTap<kMode, 32>(a, a.taps[t]);
    else
      AddTap<kMode, 0>(a, a.taps[t]);
  }
}

TW_INLINE std::int32_t Reduced(std::int32_t v, const RequantArgs& a) {
  const std::uint32_t centred = static_cast<std::uint32_t>(v) - static_cast<std::uint32_t>(a.subtract);
  return static_cast<std::int32_t>(centred << a.wrap) >> a.wrap;
}

template <RequantMode kMode>
TW_INLINE void Requantise(const RequantArgs& a) {
  const std::int64_t lo = a.lo, hi = a.hi, out_zp = a.out_zp;
  const int mask = (1 << a.byte_bits) - 1;
  for (int p = 0; p < a.n; ++p) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(p) * a.lanes;
    const std::int32_t* from = a.v + p * a.v_pitch;
    for (int l = 0; l < a.lanes; ++l) {
      const std::int64_t v = Reduced(from[l], a), m = a.m[l], s = a.s[l];
      std::int64_t sum = v * m + a.b[l];
      if (kMode == RequantMode::kScaledAdd) sum += static_cast<std::int64_t>(a.w[at + l]) * a.m2[l];
      if (kMode == RequantMode::kMultiply) sum = v * a.w[at + l] * m + a.b[l];
      if (kMode == RequantMode::kNegative) {
        // sum < out_zp << s, without the shift, which could overflow.
        const std::int64_t other = v * a.m2[l] + a.b2[l];
        sum = (sum >> s) < out_zp ? other : sum;
      }
      const std::int32_t y = static_cast<std::int32_t>(std::min(std::max(RoundHalfEven(sum, s), lo), hi));
      if (a.bytes)
        a.bytes[p * a.bytes_pitch + l] = static_cast<std::uint8_t>((y & mask) << a.held_shift);
      else
        a.y[at + l] = y;
    }
  }
}

#define TW_VECTOR_KERNELS(NAME, ATTRIBUTE)                                                           \
  template <TapMode kMode>                                                                           \
  ATTRIBUTE void Window##NAME(const WindowArgs& a) {                                                 \
    Window<kMode>(a);                                                                                \
  }                                                                                                  \
  template <RequantMode kMode>                                                                       \
  ATTRIBUTE void Requantise##NAME(const RequantArgs& a) {                                            \
    Requantise<kMode>(a);                                                                            \
  }                                                                                                  \
  constexpr VectorKernels k##NAME = {                                                                \
      {Window##NAME<TapMode::kSum>, Window##NAME<TapMode::kMax>, Window##NAME<TapMode::kDepthwise>}, \
      {Requantise##NAME<RequantMode::kPlain>, Requantise##NAME<RequantMode::kScaledAdd>,             \
       Requantise##NAME<RequantMode::kMultiply>, Requantise##NAME<RequantMode::kNegative>}};

TW_VECTOR_KERNELS(Plain, )
#if TW_X86
TW_VECTOR_KERNELS(Avx2, __attribute__((target("avx2"))))

#define TW_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

TW_AVX512 inline __m512i Load512(const void* p) { return _mm512_loadu_si512(p); }
TW_AVX512 inline __m512i Bytes512(const std::uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// Parameters of 16 lanes as 64-bit numbers: of the even lanes, of the odd ones.
struct Halves {
  __m512i even, odd;
};
TW_AVX512 inline Halves Deal(const std::int64_t* p) {
  const __m512i low = Load512(p), high = Load512(p + 8), even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  return {_mm512_permutex2var_epi64(low, even, high),
          _mm512_permutex2var_epi64(low, _mm512_add_epi64(even, _mm512_set1_epi64(1)), high)};
}

constexpr int kPairs = 8;  // of taps whose weights are made ready at once

// Window of 16 lanes of bytes at a time; sums stay in a register over the taps.
template <TapMode kMode>
TW_AVX512 void WindowBytes(const WindowArgs& a) {
  const __m128i held = _mm_cvtsi32_si128(a.held_shift);
  for (int l = 0; l < a.lanes; l += 16) {
    std::int32_t* v = a.v + l;
    if (kMode == TapMode::kMax) {
      for (int p = 0; p < a.n; ++p, v += a.lanes) {
        const std::ptrdiff_t at = p * a.pitch + l;
        __m128i most = _mm_setzero_si128();
        for (int t = 0; t < a.count; ++t)
          most = _mm_max_epu8(most, _mm_loadu_si128(reinterpret_cast<const __m128i*>(a.taps[t].act + at)));
        _mm512_storeu_si512(v, _mm512_srl_epi32(_mm512_cvtepu8_epi32(most), held));
      }
    } else if (kMode == TapMode::kSum) {
      // Held values are multiples of 1 << held_shift, and so is their sum.
      const __m512i zero = _mm512_set1_epi32(static_cast<std::int32_t>(static_cast<std::uint32_t>(a.zero_point) *
                                                                       static_cast<std::uint32_t>(a.count)));
      for (int p = 0; p < a.n; ++p, v += a.lanes) {
        const std::ptrdiff_t at = p * a.pitch + l;
        __m512i sum = _mm512_setzero_si512();
        for (int t = 0; t < a.count; ++t) sum = _mm512_add_epi32(sum, Bytes512(a.taps[t].act + at));
        _mm512_storeu_si512(v, _mm512_sub_epi32(_mm512_srl_epi32(sum, held), zero));
      }
    } else {
      // Two taps share a 32-bit word as 16-bit operands; the zero point times all weights comes off at the start.
      __m512i start = _mm512_setzero_si512();
      for (int t = 0; t < a.count; ++t) {
        const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.taps[t].weights + l));
        start = _mm512_sub_epi32(start, _mm512_cvtepi16_epi32(w));
      }
      start = _mm512_mullo_epi32(start, _mm512_set1_epi32(a.zero_point));
      for (int first = 0; first < a.count; first += 2 * kPairs) {
        const Tap* taps = a.taps + first;
        const int count = std::min(a.count - first, 2 * kPairs), pairs = (count + 1) / 2;
        __m512i weights[kPairs];
        const std::uint8_t* act[2 * kPairs];
        for (int k = 0; k < pairs; ++k) {
          const Tap &one = taps[2 * k], &two = taps[std::min(2 * k + 1, count - 1)];
          const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(one.weights + l));
          __m512i both = _mm512_and_si512(_mm512_cvtepi16_epi32(w), _mm512_set1_epi32(0xffff));
          if (2 * k + 1 < count) {
            const __m256i w2 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(two.weights + l));
            both = _mm512_or_si512(both, _mm512_slli_epi32(_mm512_cvtepi16_epi32(w2), 16));
          }
          weights[k] = both;
          act[2 * k] = one.act + l;
          act[2 * k + 1] = two.act + l;
        }
        std::int32_t* to = v;
        for (int p = 0; p < a.n; ++p, to += a.lanes) {
          const std::ptrdiff_t at = p * a.pitch;
          __m512i sum = first == 0 ? start : Load512(to);
          for (int k = 0; k < pairs; ++k) {
            const __m512i both = _mm512_or_si512(Bytes512(act[2 * k] + at),
                                                 _mm512_slli_epi32(Bytes512(act[2 * k + 1] + at), 16));
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_srl_epi32(both, held), weights[k]));
          }
          _mm512_storeu_si512(to, sum);
        }
      }
    }
  }
}

template <TapMode kMode>
TW_AVX512 void WindowAvx512(const WindowArgs& a) {
  if (a.lanes % 16 == 0 && a.taps[0].act && !a.taps[0].high) return WindowBytes<kMode>(a);
  Window<kMode>(a);
}

// sum, rounded and clamped; 8 lanes.
TW_AVX512 inline __m512i Rounded(__m512i sum, __m512i s, __m512i below_half, __m512i lo, __m512i hi) {
  const __m512i odd = _mm512_and_si512(_mm512_srav_epi64(sum, s), _mm512_set1_epi64(1));
  const __m512i y = _mm512_srav_epi64(_mm512_add_epi64(_mm512_add_epi64(sum, below_half), odd), s);
  return _mm512_min_epi64(_mm512_max_epi64(y, lo), hi);
}

template <RequantMode kMode>
TW_AVX512 void RequantiseAvx512(const RequantArgs& a) {
  if (a.lanes % 16 != 0) return Requantise<kMode>(a);
  const __m512i lo = _mm512_set1_epi64(a.lo), hi = _mm512_set1_epi64(a.hi), out_zp = _mm512_set1_epi64(a.out_zp);
  const __m512i subtract = _mm512_set1_epi32(a.subtract), mask = _mm512_set1_epi32((1 << a.byte_bits) - 1);
  const __m128i wrap = _mm_cvtsi32_si128(a.wrap), held = _mm_cvtsi32_si128(a.held_shift);
  const __m512i one = _mm512_set1_epi64(1);
  for (int l = 0; l < a.lanes; l += 16) {
    const __m512i m = Load512(a.m + l), m_odd = _mm512_srli_epi64(m, 32);
    const Halves b = Deal(a.b + l), s = Deal(a.s + l);
    const Halves half = {_mm512_sub_epi64(_mm512_sllv_epi64(one, _mm512_sub_epi64(s.even, one)), one),
                         _mm512_sub_epi64(_mm512_sllv_epi64(one, _mm512_sub_epi64(s.odd, one)), one)};
    __m512i m2 = m, m2_odd = m_odd;
    Halves b2 = b;
    if (kMode == RequantMode::kScaledAdd || kMode == RequantMode::kNegative) {
      m2 = Load512(a.m2 + l);
      m2_odd = _mm512_srli_epi64(m2, 32);
    }
    if (kMode == RequantMode::kNegative) b2 = Deal(a.b2 + l);
    for (int p = 0; p < a.n; ++p) {
      __m512i v = _mm512_sub_epi32(Load512(a.v + p * a.v_pitch + l), subtract);
      v = _mm512_sra_epi32(_mm512_sll_epi32(v, wrap), wrap);
      const __m512i v_odd = _mm512_srli_epi64(v, 32);
      __m512i even, odd;  // sums of lanes
      if (kMode == RequantMode::kMultiply) {
        const __m512i w = Load512(a.w + static_cast<std::ptrdiff_t>(p) * a.lanes + l);
        const __m512i wide = _mm512_srai_epi64(_mm512_slli_epi64(m, 32), 32);
        even = _mm512_mullo_epi64(_mm512_mul_epi32(v, w), wide);
        odd = _mm512_mullo_epi64(_mm512_mul_epi32(v_odd, _mm512_srli_epi64(w, 32)), _mm512_srai_epi64(m, 32));
      } else {
        even = _mm512_mul_epi32(v, m);
        odd = _mm512_mul_epi32(v_odd, m_odd);
      }
      even = _mm512_add_epi64(even, b.even);
      odd = _mm512_add_epi64(odd, b.odd);
      if (kMode == RequantMode::kScaledAdd) {
        const __m512i w = Load512(a.w + static_cast<std::ptrdiff_t>(p) * a.lanes + l);
        even = _mm512_add_epi64(even, _mm512_mul_epi32(w, m2));
        odd = _mm512_add_epi64(odd, _mm512_mul_epi32(_mm512_srli_epi64(w, 32), m2_odd));
      }
      if (kMode == RequantMode::kNegative) {
        const __mmask8 low = _mm512_cmplt_epi64_mask(_mm512_srav_epi64(even, s.even), out_zp);
        const __mmask8 low_odd = _mm512_cmplt_epi64_mask(_mm512_srav_epi64(odd, s.odd), out_zp);
        even = _mm512_mask_add_epi64(even, low, _mm512_mul_epi32(v, m2), b2.even);
        odd = _mm512_mask_add_epi64(odd, low_odd, _mm512_mul_epi32(v_odd, m2_odd), b2.odd);
      }
      even = Rounded(even, s.even, half.even, lo, hi);
      odd = Rounded(odd, s.odd, half.odd, lo, hi);
      const __m512i y = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
      if (a.bytes) {
        const __m512i kept = _mm512_sll_epi32(_mm512_and_si512(y, mask), held);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(a.bytes + p * a.bytes_pitch + l), _mm512_cvtepi32_epi8(kept));
      } else {
        _mm512_storeu_si512(a.y + static_cast<std::ptrdiff_t>(p) * a.lanes + l, y);
      }
    }
  }
}

constexpr VectorKernels kAvx512 = {
    {WindowAvx512<TapMode::kSum>, WindowAvx512<TapMode::kMax>, WindowAvx512<TapMode::kDepthwise>},
    {RequantiseAvx512<RequantMode::kPlain>, RequantiseAvx512<RequantMode::kScaledAdd>,
     RequantiseAvx512<RequantMode::kMultiply>, RequantiseAvx512<RequantMode::kNegative>}};
#endif

}  // namespace

const VectorKernels& VectorKernelsFor(SimdLevel level) {
#if TW_X86
  if (level == SimdLevel::kAvx512 || level == SimdLevel::kAvx512Vnni) return kAvx512;
  if (level == SimdLevel::kAvx2 || level == SimdLevel::kAvxVnni) return kAvx2;
#else
  static_cast<void>(level);
#endif
  return kPlain;
}

}  // namespace tilewright
