#include "matrix_unit.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "lanes.h"

namespace tilewright {
namespace {

// A panel should stay in the L1 cache while all output blocks pass over it.
constexpr std::size_t kPanelBytes = 32 * 1024;

std::size_t Dots(Dot dot) { return static_cast<std::size_t>(dot); }

// Left shift of quarter q's weights in lane_shift mode.
int QuarterShift(const isa::Matrix& i, int q, int wgt_bits) {
  return i.lane_shift ? (q == 0 ? 0 : q == 3 ? 2 * wgt_bits : wgt_bits) : 0;
}

}  // namespace

bool MatrixUnit::Execute(const isa::Matrix& i) {
  i_ = i;
  pixels_ = std::int64_t{i.n_y} * i.n_x;
  if (!CheckOperands() || !CheckAcc() || !CheckWgtRange() || !CheckAct() || !CheckWgt() || !TakeAcc())
    return false;
  ChooseDot();
  Compute();
  m_.stats_->matrix_steps += pixels_ * i.n_oc * i.n_ic * i.n_ky * i.n_kx;
  return true;
}

// The narrowest operands that hold every weight, shifts of quarters included.
void MatrixUnit::ChooseDot() {
  int bits = 8;  // signed bits needed
  const int w = m_.o_.wgt_bits;
  for (int q = 0; q < 4 && !m_.bipolar_; ++q)
    bits = std::max(bits, w + QuarterShift(i_, q, w) + (i_.w_signed >> q & 1 ? 0 : 1));
  dot_ = KernelDot(m_.level, bits <= 8 ? Dot::k4 : bits <= 16 ? Dot::k2 : Dot::k1);
  const int lanes = 4 * kDotLanes[Dots(dot_)];
  quads_ = (m_.o_.block_in + lanes - 1) / lanes;
}

// Packs the tiles that output block `oc` needs, where they are not packed yet, see kernels.h.
void MatrixUnit::PackTiles(int oc) {
  const Overlay& o = m_.o_;
  const PackKey key = 1u | static_cast<PackKey>(dot_) << 1 | i_.w_signed << 3 | i_.lane_shift << 7;
  const std::size_t tile_words = static_cast<std::size_t>(m_.out16_ * quads_ * 4);
  std::vector<std::int32_t>& packed = m_.packed_[Dots(dot_)];
  if (packed.empty()) packed.resize(static_cast<std::size_t>(o.wgt_tiles) * tile_words);
  if (m_.bipolar_ && m_.tile_sums_.empty())
    m_.tile_sums_.resize(static_cast<std::size_t>(o.wgt_tiles * m_.out16_));
  for (std::uint32_t ic = 0; ic < i_.n_ic; ++ic)
    for (std::uint32_t ky = 0; ky < i_.n_ky; ++ky)
      for (std::uint32_t kx = 0; kx < i_.n_kx; ++kx) {
        const std::size_t tile = i_.wgt_base + static_cast<std::size_t>(oc) * i_.wgt_oc +
                                 std::size_t{ic} * i_.wgt_ic + std::size_t{ky} * i_.wgt_ky +
                                 std::size_t{kx} * i_.wgt_kx;
        if (m_.pack_key_[tile] == key) continue;
        m_.pack_key_[tile] = key;
        std::int32_t* to = &packed[tile * tile_words];
        switch (dot_) {
          case Dot::k4:
            PackTile<std::uint8_t>(tile, to);
            break;
          case Dot::k2:
            PackTile<std::uint16_t>(tile, to);
            break;
          case Dot::k1:
            PackTile<std::uint32_t>(tile, to);
            break;
        }
      }
}

// `T` is as wide as an operand; the arithmetic is modulo its width, so that sign does not matter.
template <typename T>
void MatrixUnit::PackTile(std::size_t tile, std::int32_t* to) {
  const Overlay& o = m_.o_;
  const std::size_t lanes = static_cast<std::size_t>(o.block_in),
                    outputs = static_cast<std::size_t>(o.block_out);
  const std::size_t words = lanes * sizeof(T) / 4;  // of a row
  raw_.resize(lanes * outputs);
  wide_.resize(words * outputs * 4);
  UnpackLanes(&m_.wgt_[tile * static_cast<std::size_t>(o.tile_bytes())], raw_.data(), raw_.size(), o.wgt_bits,
              0);
  // Runs of lanes that are treated alike: a quarter of each row, or everything.
  const bool alike = m_.bipolar_ ? !i_.lane_shift : !i_.lane_shift && (i_.w_signed == 0 || i_.w_signed == 15);
  const std::size_t runs = alike ? 1 : 4 * outputs, length = raw_.size() / runs;
  T* wide = reinterpret_cast<T*>(wide_.data());
  for (std::size_t run = 0; run < runs; ++run) {
    const int q = static_cast<int>(run % 4), shift = QuarterShift(i_, q, o.wgt_bits);
    const T sign = static_cast<T>(i_.w_signed >> q & 1 ? 1 << (o.wgt_bits - 1) : 0);
    const std::uint8_t* from = &raw_[run * length];
    T* into = wide + run * length;
    if (m_.bipolar_) {
      for (std::size_t l = 0; l < length; ++l) into[l] = static_cast<T>((2 * from[l] - 1) * (1 << shift));
    } else {
      for (std::size_t l = 0; l < length; ++l)
        into[l] = static_cast<T>(static_cast<std::uint32_t>((from[l] ^ sign) - sign) << shift);
    }
  }
  if (m_.bipolar_) {
    std::int32_t* sums = &m_.tile_sums_[tile * static_cast<std::size_t>(m_.out16_)];
    for (std::size_t out = 0; out < outputs; ++out) {
      sums[out] = 0;
      for (std::size_t l = 0; l < lanes; ++l)
        sums[out] += static_cast<std::make_signed_t<T>>(wide[out * lanes + l]);
    }
  }
  // Words of 16 rows side by side; rows and words that only fill up are 0.
  const std::size_t padded_words = static_cast<std::size_t>(quads_) * 4;
  const std::size_t sub_blocks = static_cast<std::size_t>(m_.out16_ / kSubBlock);
  if (words < padded_words || outputs % kSubBlock) std::fill_n(to, padded_words * kSubBlock * sub_blocks, 0);
  for (std::size_t sub = 0; sub < sub_blocks; ++sub, to += padded_words * kSubBlock) {
    const std::uint8_t* rows = &wide_[sub * kSubBlock * words * 4];
    const std::size_t count = std::min<std::size_t>(kSubBlock, outputs - sub * kSubBlock);
    for (std::size_t w = 0; w < words; ++w)
      for (std::size_t r = 0; r < count; ++r)
        std::memcpy(&to[w * kSubBlock + r], rows + 4 * (r * words + w), 4);
  }
}

// Lanes as the kernel reads them; consecutive quads of a pixel lie `quad_pitch` bytes apart.
void MatrixUnit::PutLanes(const std::uint8_t* from, std::uint8_t* to, std::size_t quad_pitch) const {
  const int lanes = m_.o_.block_in;
  switch (dot_) {
    case Dot::k4:
      if (lanes < 16) {
        std::memset(to, 0, 16);
        std::memcpy(to, from, static_cast<std::size_t>(lanes));
      }
      for (int l = 0; l + 16 <= lanes; l += 16, to += quad_pitch) std::memcpy(to, from + l, 16);
      return;
    case Dot::k2:
      for (int l = 0; l < lanes; l += 8, to += quad_pitch) {
        std::int16_t wide[8];
        for (int k = 0; k < 8; ++k) wide[k] = from[l + k];
        std::memcpy(to, wide, sizeof wide);
      }
      return;
    case Dot::k1:
      for (int l = 0; l < lanes; l += 4, to += quad_pitch) {
        std::int32_t wide[4];
        for (int k = 0; k < 4; ++k) wide[k] = from[l + k];
        std::memcpy(to, wide, sizeof wide);
      }
      return;
  }
}

// Where the lanes of a tap come from, for each displacement; `row` and `column` index rows_[d] and columns_[d].
void MatrixUnit::PlaceTaps(int row, int column) {
  const std::int64_t lanes = m_.o_.block_in;
  places_.clear();
  for (const Offsets& rows : rows_)
    for (const Offsets& columns : columns_) {
      const std::int64_t r = rows[static_cast<std::size_t>(row)], c = columns[static_cast<std::size_t>(column)];
      places_.push_back(r >= 0 && c >= 0 ? (i_.act_base + r + c) * lanes : -1);
    }
}

// The half word of a block whose lanes come from the places of a tap.
const std::uint8_t* MatrixUnit::Displaced(std::int64_t block) {
  const std::size_t lanes = static_cast<std::size_t>(m_.o_.block_in);
  const std::int64_t ahead = block * i_.act_ic * m_.o_.block_in;
  std::memset(mixed_.data(), 0, lanes);
  for (const Displacement& d : Lanes(block)) {
    const std::size_t at = static_cast<std::size_t>(d.dy - least()) * columns_.size() +
                           static_cast<std::size_t>(d.dx - least());
    const std::uint8_t* from = places_[at] < 0 ? pad_.data() : &m_.act_[static_cast<std::size_t>(places_[at] + ahead)];
    MixLanes(mixed_.data(), from, d.mask.data(), lanes);
  }
  return mixed_.data();
}

// Steps are numbered (ky, kx, ic), ic fastest.
void MatrixUnit::GatherPixel(int pixel, int first_step, int steps, int oc, std::uint8_t* to,
                             std::size_t quad_pitch) {
  const int n_x = static_cast<int>(i_.n_x), n_y = static_cast<int>(i_.n_y), n_ic = static_cast<int>(i_.n_ic);
  const int n_kx = static_cast<int>(i_.n_kx);
  const std::size_t lanes = static_cast<std::size_t>(m_.o_.block_in);
  const int y = pixel / n_x, x = pixel % n_x;
  const std::int64_t block0 = i_.ic_first + std::int64_t{oc} * i_.ic_stride_o;
  const std::size_t step_pitch = quad_pitch * static_cast<std::size_t>(quads_);
  int tap = first_step / n_ic, ic = first_step % n_ic;
  while (steps > 0) {
    const int run = std::min(steps, n_ic - ic);
    const int row = tap / n_kx * n_y + y, column = tap % n_kx * n_x + x;
    if (i_.displaced) {
      PlaceTaps(row, column);
      for (int k = 0; k < run; ++k, to += step_pitch)
        PutLanes(Displaced(block0 + ic + k), to, quad_pitch);
    } else {
      const std::int64_t r = rows_[0][static_cast<std::size_t>(row)],
                         c = columns_[0][static_cast<std::size_t>(column)];
      const bool inside = r >= 0 && c >= 0;
      const std::uint8_t* from = pad_.data();
      if (inside)
        from = &m_.act_[static_cast<std::size_t>(i_.act_base + r + c + (block0 + ic) * i_.act_ic) * lanes];
      const std::size_t pitch = inside ? i_.act_ic * lanes : 0;
      if (dot_ == Dot::k4 && lanes == 16) {
        for (int k = 0; k < run; ++k, to += step_pitch, from += pitch) std::memcpy(to, from, 16);
      } else {
        for (int k = 0; k < run; ++k, to += step_pitch, from += pitch) PutLanes(from, to, quad_pitch);
      }
    }
    steps -= run;
    ic = 0;
    ++tap;
  }
}

void MatrixUnit::Compute() {
  const Overlay& o = m_.o_;
  const int steps = static_cast<int>(i_.n_ic * i_.n_ky * i_.n_kx);
  const int sub_blocks = m_.out16_ / kSubBlock;
  const std::size_t out16 = static_cast<std::size_t>(m_.out16_);
  const std::size_t tile_words = out16 * static_cast<std::size_t>(quads_) * 4;
  const std::size_t step_bytes = static_cast<std::size_t>(quads_) * 16;
  const KernelSet& set = Kernels(m_.level, dot_, sub_blocks);
  // "Contributes nothing" is held as 1 between 0 (-1) and 2 (+1).
  pad_.assign(static_cast<std::size_t>(o.block_in), static_cast<std::uint8_t>(m_.bipolar_ ? 1 : i_.pad));
  mixed_.resize(pad_.size());
  for (std::uint32_t oc = 0; oc < i_.n_oc; ++oc) PackTiles(static_cast<int>(oc));

  std::vector<std::size_t> tile_of_step, tile_offset;
  for (std::uint32_t ky = 0; ky < i_.n_ky; ++ky)
    for (std::uint32_t kx = 0; kx < i_.n_kx; ++kx)
      for (std::uint32_t ic = 0; ic < i_.n_ic; ++ic) {
        tile_of_step.push_back(i_.wgt_base + std::size_t{ic} * i_.wgt_ic + std::size_t{ky} * i_.wgt_ky +
                               std::size_t{kx} * i_.wgt_kx);
        tile_offset.push_back(tile_of_step.back() * tile_words);
      }

  // Groups of nearly equal size: 49 pixels are better four times 12 or 13 than 14, 14, 14 and 7.
  const int groups = static_cast<int>((pixels_ + set.max_pixels - 1) / set.max_pixels);
  const int most = static_cast<int>((pixels_ + groups - 1) / groups);
  const int chunk =
      std::clamp(static_cast<int>(kPanelBytes / (step_bytes * static_cast<std::size_t>(most))), 1, steps);
  std::vector<std::int32_t>& panel = m_.panel_;
  panel.resize(std::max(panel.size(),
                        static_cast<std::size_t>(chunk) * step_bytes / 4 * static_cast<std::size_t>(most)));

  // A bipolar value is held as value + 1, so the sum of the weights has to be taken off again.
  std::vector<std::int32_t> init(out16 * i_.n_oc, 0);
  std::int32_t* acc[kMaxPixels];
  const std::uint32_t shared =
      i_.ic_stride_o == 0 || i_.n_oc == 1 ? 1 : i_.n_oc;  // panels for each group and chunk
  for (int first = 0; first < steps; first += chunk) {
    const int count = std::min(chunk, steps - first);
    if (m_.bipolar_) {
      std::fill(init.begin(), init.end(), 0);
      for (std::uint32_t oc = 0; oc < i_.n_oc; ++oc)
        for (int s = first; s < first + count; ++s) {
          const std::size_t tile = tile_of_step[static_cast<std::size_t>(s)] + std::size_t{oc} * i_.wgt_oc;
          for (std::size_t k = 0; k < out16; ++k) init[oc * out16 + k] -= m_.tile_sums_[tile * out16 + k];
        }
    }
    for (int group = 0; group < groups; ++group) {
      const int begin = static_cast<int>(pixels_ * group / groups);
      const int in_group = static_cast<int>(pixels_ * (group + 1) / groups) - begin;
      const std::size_t quad_pitch = static_cast<std::size_t>(in_group) * 16;
      for (std::uint32_t oc = 0; oc < i_.n_oc; ++oc) {
        if (oc < shared)
          for (int p = 0; p < in_group; ++p)
            GatherPixel(begin + p, first, count, static_cast<int>(oc),
                        reinterpret_cast<std::uint8_t*>(panel.data()) + 16 * p, quad_pitch);
        for (int p = 0; p < in_group; ++p) {
          const std::size_t y = static_cast<std::size_t>(begin + p) / i_.n_x,
                            x = static_cast<std::size_t>(begin + p) % i_.n_x;
          acc[p] = &m_.acc_[(i_.acc_base + oc * i_.acc_oc + y * i_.acc_y + x * i_.acc_x) * out16];
        }
        GemmArgs args;
        args.panel = panel.data();
        args.tiles = m_.packed_[Dots(dot_)].data() + std::size_t{oc} * i_.wgt_oc * tile_words;
        args.tile_offset = &tile_offset[static_cast<std::size_t>(first)];
        args.steps = count;
        args.quads = quads_;
        args.sub_blocks = sub_blocks;
        args.init = &init[oc * out16];
        args.acc = acc;
        args.add = !i_.fresh || first != 0;
        args.shift = static_cast<int>(i_.shift);
        set.kernels[in_group](args);
      }
    }
  }
}

}  // namespace tilewright
