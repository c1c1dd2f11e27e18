// The loop over tiles of a convolution, written plainly: what the fast simulator is compared with. It does
// the arithmetic of MATRIX and nothing else (no stream, no checks), and is left to the compiler to vectorise.
#include <cstdint>

extern "C" void plain_tile_loop(const std::uint8_t* act, const std::int8_t* wgt, std::int32_t* acc,
                                int height, int width, int blocks_in, int blocks_out, int kernel,
                                std::uint8_t pad) {
  // act [y][x][ic][BLOCK_IN], wgt [oc][ic][ky][kx][BLOCK_OUT][BLOCK_IN], acc [oc][y][x][BLOCK_OUT], zero at
  // first
  std::uint8_t padding[BLOCK_IN];
  for (int l = 0; l < BLOCK_IN; ++l) padding[l] = pad;
  for (int oc = 0; oc < blocks_out; ++oc)
    for (int ic = 0; ic < blocks_in; ++ic)
      for (int ky = 0; ky < kernel; ++ky)
        for (int kx = 0; kx < kernel; ++kx) {
          const std::int8_t* tile =
              wgt + (((oc * blocks_in + ic) * kernel + ky) * kernel + kx) * BLOCK_OUT * BLOCK_IN;
          for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x) {
              const int py = y + ky - kernel / 2, px = x + kx - kernel / 2;
              const bool inside = py >= 0 && py < height && px >= 0 && px < width;
              const std::uint8_t* value =
                  inside ? act + ((py * width + px) * blocks_in + ic) * BLOCK_IN : padding;
              std::int32_t* sum = acc + ((oc * height + y) * width + x) * BLOCK_OUT;
              for (int o = 0; o < BLOCK_OUT; ++o) {
                std::int32_t dot = 0;
                for (int l = 0; l < BLOCK_IN; ++l) dot += value[l] * tile[o * BLOCK_IN + l];
                sum[o] += dot;
              }
            }
        }
}
