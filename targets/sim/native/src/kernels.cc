#include "kernels.h"

#include <array>
#include <utility>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define TW_X86 1
#include <immintrin.h>
#else
#define TW_X86 0
#endif

namespace tilewright {
namespace {

constexpr int kPlainPixels = 4;

// Any instruction set, one operand a word. Unsigned, for sums wrap.
template <int P>
void PlainKernel(const GemmArgs& a) {
  for (int s = 0; s < a.sub_blocks; ++s) {
    std::uint32_t sums[P][kSubBlock];
    for (int p = 0; p < P; ++p)
      for (int o = 0; o < kSubBlock; ++o) sums[p][o] = static_cast<std::uint32_t>(a.init[s * kSubBlock + o]);
    const std::int32_t* values = a.panel;
    for (int step = 0; step < a.steps; ++step) {
      const std::int32_t* w =
          a.tiles + a.tile_offset[step] + static_cast<std::ptrdiff_t>(s) * a.quads * 4 * kSubBlock;
      for (int q = 0; q < a.quads; ++q, values += 4 * P, w += 4 * kSubBlock)
        for (int k = 0; k < 4; ++k)
          for (int p = 0; p < P; ++p) {
            const std::uint32_t value = static_cast<std::uint32_t>(values[4 * p + k]);
            for (int o = 0; o < kSubBlock; ++o)
              sums[p][o] += value * static_cast<std::uint32_t>(w[k * kSubBlock + o]);
          }
    }
    for (int p = 0; p < P; ++p)
      for (int o = 0; o < kSubBlock; ++o) {
        std::int32_t* acc = a.acc[p] + s * kSubBlock + o;
        const std::uint32_t old = a.add ? static_cast<std::uint32_t>(*acc) : 0;
        *acc = static_cast<std::int32_t>(old + (sums[p][o] << a.shift));
      }
  }
}

#if TW_X86

// One body for every pair of register width and dot product. A target attribute cannot come from a template
// parameter, so the body is a macro; `N` is sub-blocks that one pass over the panel serves.
#define TW_X86_KERNEL(NAME, TARGET, REG, WIDTH, LOAD, STORE, SET1, ADD, SHIFT, DOT)                  \
  template <int P, int N>                                                                            \
  __attribute__((target(TARGET))) void NAME(const GemmArgs& a) {                                     \
    constexpr int kRegs = N * kSubBlock / WIDTH; /* registers a pixel */                             \
    const std::ptrdiff_t sub_pitch = static_cast<std::ptrdiff_t>(a.quads) * 4 * kSubBlock;           \
    const __m128i shift = _mm_cvtsi32_si128(a.shift);                                                \
    for (int s = 0; s < a.sub_blocks; s += N) {                                                      \
      REG sums[P][kRegs];                                                                            \
      _Pragma("GCC unroll 16") for (int p = 0; p < P; ++p)                                           \
          _Pragma("GCC unroll 4") for (int r = 0; r < kRegs; ++r) sums[p][r] =                       \
              LOAD(a.init + s * kSubBlock + r * WIDTH);                                              \
      const std::int32_t* values = a.panel;                                                          \
      for (int step = 0; step < a.steps; ++step) {                                                   \
        const std::int32_t* w = a.tiles + a.tile_offset[step] + s * sub_pitch;                       \
        for (int q = 0; q < a.quads; ++q, values += 4 * P, w += 4 * kSubBlock) {                     \
          _Pragma("GCC unroll 4") for (int k = 0; k < 4; ++k) {                                      \
            REG weights[kRegs];                                                                      \
            _Pragma("GCC unroll 4") for (int r = 0; r < kRegs; ++r) weights[r] =                     \
                LOAD(w + r * WIDTH / kSubBlock * sub_pitch + k * kSubBlock + r * WIDTH % kSubBlock); \
            _Pragma("GCC unroll 16") for (int p = 0; p < P; ++p) {                                   \
              const REG value = SET1(values[4 * p + k]);                                             \
              _Pragma("GCC unroll 4") for (int r = 0; r < kRegs; ++r) sums[p][r] =                   \
                  DOT(sums[p][r], value, weights[r]);                                                \
            }                                                                                        \
          }                                                                                          \
        }                                                                                            \
      }                                                                                              \
      _Pragma("GCC unroll 16") for (int p = 0; p < P; ++p) {                                         \
        _Pragma("GCC unroll 4") for (int r = 0; r < kRegs; ++r) {                                    \
          std::int32_t* acc = a.acc[p] + s * kSubBlock + r * WIDTH;                                  \
          REG sum = SHIFT(sums[p][r], shift);                                                        \
          if (a.add) sum = ADD(sum, LOAD(acc));                                                      \
          STORE(acc, sum);                                                                           \
        }                                                                                            \
      }                                                                                              \
    }                                                                                                \
  }

#define TW_LOAD256(p) _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))
#define TW_STORE256(p, x) _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x)
#define TW_LOAD512(p) _mm512_loadu_si512(p)
#define TW_STORE512(p, x) _mm512_storeu_si512(p, x)
// maddubs would saturate its 16-bit sums of u8 x s8 products; widened operands cannot.
#define TW_DOT2_256(sum, v, w) _mm256_add_epi32(sum, _mm256_madd_epi16(v, w))
#define TW_DOT2_512(sum, v, w) _mm512_add_epi32(sum, _mm512_madd_epi16(v, w))

#define TW_DOT1_256(sum, v, w) _mm256_add_epi32(sum, _mm256_mullo_epi32(v, w))
#define TW_DOT1_512(sum, v, w) _mm512_add_epi32(sum, _mm512_mullo_epi32(v, w))

TW_X86_KERNEL(Avx2Dot1, "avx2", __m256i, 8, TW_LOAD256, TW_STORE256, _mm256_set1_epi32, _mm256_add_epi32,
              _mm256_sll_epi32, TW_DOT1_256)
TW_X86_KERNEL(Avx512Dot1, "avx512f,avx512bw", __m512i, 16, TW_LOAD512, TW_STORE512, _mm512_set1_epi32,
              _mm512_add_epi32, _mm512_sll_epi32, TW_DOT1_512)
TW_X86_KERNEL(Avx2Dot2, "avx2", __m256i, 8, TW_LOAD256, TW_STORE256, _mm256_set1_epi32, _mm256_add_epi32,
              _mm256_sll_epi32, TW_DOT2_256)
TW_X86_KERNEL(AvxVnniDot4, "avx2,avxvnni", __m256i, 8, TW_LOAD256, TW_STORE256, _mm256_set1_epi32,
              _mm256_add_epi32, _mm256_sll_epi32, _mm256_dpbusd_avx_epi32)
TW_X86_KERNEL(Avx512Dot2, "avx512f,avx512bw", __m512i, 16, TW_LOAD512, TW_STORE512, _mm512_set1_epi32,
              _mm512_add_epi32, _mm512_sll_epi32, TW_DOT2_512)
TW_X86_KERNEL(Avx512Dot4, "avx512f,avx512bw,avx512vnni", __m512i, 16, TW_LOAD512, TW_STORE512,
              _mm512_set1_epi32, _mm512_add_epi32, _mm512_sll_epi32, _mm512_dpbusd_epi32)

// Sums of P pixels fill the register file but for a value and the weights: 16 ymm, 32 zmm registers.
constexpr int kPixels256 = 6;      // 2 registers a pixel
constexpr int kPixels512 = 14;     // 1 register a pixel
constexpr int kPixels512Two = 12;  // 2 registers a pixel

#endif  // TW_X86

template <int... I>
constexpr KernelSet PlainSet(std::integer_sequence<int, I...>) {
  return {sizeof...(I), {nullptr, PlainKernel<I + 1>...}};
}
constexpr KernelSet kPlainKernels = PlainSet(std::make_integer_sequence<int, kPlainPixels>());

#if TW_X86
#define TW_KERNEL_SET(NAME, KERNEL, N)                               \
  template <int... I>                                                \
  constexpr KernelSet NAME##Make(std::integer_sequence<int, I...>) { \
    return {sizeof...(I), {nullptr, KERNEL<I + 1, N>...}};           \
  }
TW_KERNEL_SET(Avx2Single, Avx2Dot1, 1)
TW_KERNEL_SET(Avx512Single, Avx512Dot1, 1)
TW_KERNEL_SET(Avx2, Avx2Dot2, 1)
TW_KERNEL_SET(AvxVnni, AvxVnniDot4, 1)
TW_KERNEL_SET(Avx512One, Avx512Dot2, 1)
TW_KERNEL_SET(Avx512Two, Avx512Dot2, 2)
TW_KERNEL_SET(Vnni512One, Avx512Dot4, 1)
TW_KERNEL_SET(Vnni512Two, Avx512Dot4, 2)
constexpr KernelSet kAvx2Single = Avx2SingleMake(std::make_integer_sequence<int, kPixels256>());
constexpr KernelSet kAvx512Single = Avx512SingleMake(std::make_integer_sequence<int, kPixels512>());
constexpr KernelSet kAvx2Kernels = Avx2Make(std::make_integer_sequence<int, kPixels256>());
constexpr KernelSet kAvxVnniKernels = AvxVnniMake(std::make_integer_sequence<int, kPixels256>());
constexpr KernelSet kAvx512One = Avx512OneMake(std::make_integer_sequence<int, kPixels512>());
constexpr KernelSet kAvx512Two = Avx512TwoMake(std::make_integer_sequence<int, kPixels512Two>());
constexpr KernelSet kVnni512One = Vnni512OneMake(std::make_integer_sequence<int, kPixels512>());
constexpr KernelSet kVnni512Two = Vnni512TwoMake(std::make_integer_sequence<int, kPixels512Two>());
#endif

constexpr const char* kLevelNames[kSimdLevels] = {"plain", "avx2", "avx-vnni", "avx512", "avx512-vnni"};

}  // namespace

const char* SimdLevelName(SimdLevel level) { return kLevelNames[static_cast<int>(level)]; }

bool SimdLevelSupported(SimdLevel level) {
#if TW_X86
  switch (level) {
    case SimdLevel::kPlain:
      return true;
    case SimdLevel::kAvx2:
      return __builtin_cpu_supports("avx2");
    case SimdLevel::kAvxVnni:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avxvnni");
    case SimdLevel::kAvx512:
    case SimdLevel::kAvx512Vnni:
      // VECTOR's loops are compiled for dq and vl as well.
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             (level == SimdLevel::kAvx512 || __builtin_cpu_supports("avx512vnni"));
  }
  return false;
#else
  return level == SimdLevel::kPlain;
#endif
}

SimdLevel BestSimdLevel() {
  for (int level = kSimdLevels - 1; level > 0; --level)
    if (SimdLevelSupported(static_cast<SimdLevel>(level))) return static_cast<SimdLevel>(level);
  return SimdLevel::kPlain;
}

Dot KernelDot(SimdLevel level, Dot dot) {
  if (level == SimdLevel::kPlain) return Dot::k1;
  const bool has_dot4 = level == SimdLevel::kAvxVnni || level == SimdLevel::kAvx512Vnni;
  return dot == Dot::k4 && !has_dot4 ? Dot::k2 : dot;
}

const KernelSet& Kernels(SimdLevel level, Dot dot, int sub_blocks) {
  dot = KernelDot(level, dot);
#if TW_X86
  const bool two = sub_blocks % 2 == 0;
  if (dot == Dot::k1 && level != SimdLevel::kPlain)
    return level < SimdLevel::kAvx512 ? kAvx2Single : kAvx512Single;
  switch (level) {
    case SimdLevel::kAvx2:
      return kAvx2Kernels;
    case SimdLevel::kAvxVnni:
      return dot == Dot::k4 ? kAvxVnniKernels : kAvx2Kernels;
    case SimdLevel::kAvx512:
      return two ? kAvx512Two : kAvx512One;
    case SimdLevel::kAvx512Vnni:
      if (dot == Dot::k4) return two ? kVnni512Two : kVnni512One;
      return two ? kAvx512Two : kAvx512One;
    case SimdLevel::kPlain:
      break;
  }
#else
  static_cast<void>(sub_blocks);
#endif
  return kPlainKernels;
}

}  // namespace tilewright
