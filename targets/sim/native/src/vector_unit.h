// VECTOR: windows, operation, requantisation, clamp, table; ACC or ACT -> ACT.
#ifndef TILEWRIGHT_SRC_VECTOR_UNIT_H_
#define TILEWRIGHT_SRC_VECTOR_UNIT_H_

#include <vector>

#include "machine.h"
#include "vector_kernels.h"

namespace tilewright {

class VectorUnit {
 public:
  explicit VectorUnit(Machine* m) : m_(*m) {}
  bool Execute(const isa::Vector& i);

 private:
  // Coordinates of one direction by tap * n + counter, and which counters of each tap lie inside the map.
  struct Axis {
    std::vector<std::int64_t> at;        // map coordinate, -1 outside
    std::vector<std::int64_t> used;      // coordinates inside, each once
    std::vector<std::uint8_t> tap_used;  // by tap: inside for some counter
    std::int64_t empty = -1;             // a counter without any tap inside
  };
  static Axis MakeAxis(std::uint32_t n, std::uint32_t taps, std::uint32_t stride, std::uint32_t dilation,
                       std::int32_t offset, std::uint32_t size);

  bool CheckOperands();
  bool CheckReads();
  bool CheckParams();
  bool CheckWrites();
  bool FailTwice();
  template <typename F>
  bool ForEachResult(F f) const;
  bool CheckOwnOverlap();
  bool ReadHalfWords(std::int64_t base, std::uint32_t row, std::uint32_t column, std::uint32_t channel);
  bool ReadAcc();
  bool ReadRecords(std::int64_t first, std::int64_t count);
  bool TakeParams(std::uint32_t c);

  void Row(std::uint32_t c, std::uint32_t y);
  struct Segment {
    std::uint32_t x, n;
  };
  void MakeSegments();
  void Window(std::uint32_t c, std::uint32_t y, const Segment& segment, std::int32_t* v);
  std::int64_t ColumnAt(std::uint32_t kx, std::uint32_t x) const {
    return columns_.at[std::size_t{kx} * i_.n_x + x];
  }
  const std::int32_t* AccAt(std::uint32_t c, std::int64_t row, std::int64_t column) const;
  std::size_t Destination(std::uint32_t c, std::uint32_t y, std::uint32_t x) const;
  void Second(std::uint32_t c, std::uint32_t y, std::uint32_t x0, int n);
  void Put(std::uint32_t c, std::uint32_t y, std::uint32_t x0, int n);

  bool two_operands() const;
  bool from_acc() const;
  // A division only where the ring wraps.
  std::int64_t WrapRow(std::int64_t row) const {
    return i_.ring && row >= std::int64_t{i_.ring} ? row % i_.ring : row;
  }
  std::int64_t DestinationRow(std::uint32_t y) const {
    const std::int64_t row = std::int64_t{i_.dst_y} + y;
    return (i_.dst_ring && row >= std::int64_t{i_.dst_ring} ? row % i_.dst_ring : row) * i_.dst_row;
  }

  Machine& m_;
  isa::Vector i_{};
  Axis rows_, columns_;
  const VectorKernels* kernels_ = nullptr;
  int lanes_ = 0, halves_ = 1;
  // Parameters of the current channel half word.
  std::vector<std::int32_t> m_first_, m_second_;
  std::vector<std::int64_t> s_, b_first_, b_second_;
  std::vector<std::int16_t> weights_;  // [tap][lane]
  std::vector<Segment> segments_;
  std::vector<Tap> taps_;  // of the current segment
  std::vector<std::int32_t> v_, w_, y_;  // [pixel][lane]
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_VECTOR_UNIT_H_
