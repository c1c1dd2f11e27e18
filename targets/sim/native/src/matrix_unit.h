// MATRIX: an implicit convolution as a blocked matrix product.
//
// The order of the counters does not change the sums, so the instruction's own order is ignored: pixels are
// taken in groups that fit a kernel's registers; for each group the activations of all steps are gathered
// into a panel (padding, ring, stride, displacement and widening happen here, once), which then meets the
// tiles of every output block.
#ifndef TILEWRIGHT_SRC_MATRIX_UNIT_H_
#define TILEWRIGHT_SRC_MATRIX_UNIT_H_

#include <vector>

#include "kernels.h"
#include "machine.h"

namespace tilewright {

class MatrixUnit {
 public:
  explicit MatrixUnit(Machine* m) : m_(*m) {}
  bool Execute(const isa::Matrix& i);

 private:
  // Half words from map row or column 0, for one displacement; -1 outside the map. By tap * n + counter.
  using Offsets = std::vector<std::int64_t>;

  bool CheckOperands();
  bool CheckAcc();
  bool CheckWgtRange();
  bool CheckWgt();
  bool TakeAcc();
  bool CheckAct();
  Offsets Rows(int dy) const;
  Offsets Columns(int dx) const;
  const std::vector<Displacement>& Lanes(std::int64_t block) const;
  bool CheckBox(const Offsets& rows, const Offsets& columns, const std::vector<std::int64_t>& blocks);

  void ChooseDot();
  void PackTiles(int oc);
  template <typename T>
  void PackTile(std::size_t tile, std::int32_t* to);
  void Compute();
  void GatherPixel(int pixel, int first_step, int steps, int oc, std::uint8_t* to, std::size_t quad_pitch);
  void PlaceTaps(int row, int column);
  const std::uint8_t* Displaced(std::int64_t block);
  void PutLanes(const std::uint8_t* from, std::uint8_t* to, std::size_t quad_pitch) const;

  int least() const { return m_.o_.displacement_min; }

  Machine& m_;
  isa::Matrix i_{};
  std::vector<std::size_t> sums_;        // ACC vector of each (oc, y, x)
  std::int64_t pixels_ = 0;              // n_y * n_x
  std::vector<std::int64_t> blocks_;     // every input block read, each once
  std::vector<Offsets> rows_, columns_;  // by displacement - least(); one each if not displaced
  std::vector<std::int64_t> places_;     // by (dy, dx): byte of ACT of a tap's lane 0 of block 0; -1 for padding
  Dot dot_ = Dot::k4;
  int quads_ = 0;                          // 16-byte quads of a half word in a panel
  std::vector<std::uint8_t> pad_, mixed_;  // half words, a byte a lane
  std::vector<std::uint8_t> raw_;   // a tile, a byte a weight
  std::vector<std::uint8_t> wide_;  // the same as operands of 1, 2 or 4 bytes, row-major
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_MATRIX_UNIT_H_
