#include "timing_vector.h"

namespace tilewright {

void VectorTimer::Start(const isa::Vector& i, std::int64_t now) {
  i_ = i;
  active_ = true;
  const auto op = static_cast<isa::VectorOp>(i.op);
  two_ = op == isa::VectorOp::kScaledAdd || op == isa::VectorOp::kMultiply;
  const bool acc = static_cast<isa::Source>(i.source) == isa::Source::kAcc;
  // Lanes for two half words work on channels c and c+1 of a pixel where both lie side by side.
  pairs_ = c_.vector_lanes == 2 * c_.block_in && i.dst_c == 1 &&
           (acc ? c_.block_out == 2 * c_.block_in : i.src_c == 1) && (!two_ || i.src2_c == 1);
  narrow_ = std::max(1, c_.block_in / c_.vector_lanes);
  result_cycles_ = std::max<std::int64_t>(narrow_, std::int64_t{1} << i.out_planes);
  MakeColumns();
  flows_ = narrow_ == 1 && !(two_ && (i.src2_x == 0 || i.kernel_x != 1 || i.kernel_y != 1));
  std::int64_t rows_least = kNever;  // that a window has inside the map
  for (std::int64_t y = 0; y < std::int64_t{i.n_y}; ++y)
    rows_least = std::min(rows_least, std::max<std::int64_t>(TapRows(y), 1));
  const std::int64_t reads =
      rows_least * passes_ * (std::int64_t{1} << i.in_planes) + (two_ ? std::int64_t{1} << i.in2_planes : 0);
  writing_ = result_cycles_;
  for (const Column& c : columns_) {
    writing_ = std::max<std::int64_t>(writing_, c.results * result_cycles_);
    if (c.results * result_cycles_ > reads) flows_ = false;
  }

  const std::int64_t channels = i.n_c - 1, rows = i.ring ? i.ring - 1 : i.height - 1;
  const std::int64_t source =
      i.src_base + rows * i.src_row + std::int64_t{i.width - 1} * i.src_x + channels * i.src_c;
  reads_ = acc ? 0 : banks_.Pairs(i.src_base, source + std::int64_t{(1 << i.in_planes) - 1} * i.src_plane);
  if (two_)
    reads_ |= banks_.Pairs(i.src2_base, i.src2_base + rows * i.src2_row +
                                            std::int64_t{i.width - 1} * i.src2_x + channels * i.src2_c +
                                            std::int64_t{(1 << i.in2_planes) - 1} * i.src2_plane);
  const std::int64_t down = i.dst_ring ? i.dst_ring - 1 : std::int64_t{i.dst_y} + i.n_y - 1;
  writes_ = banks_.Pairs(i.dst_base, i.dst_base + down * i.dst_row + std::int64_t{i.n_x - 1} * i.dst_x +
                                         channels * i.dst_c + std::int64_t{(1 << i.out_planes) - 1} * i.dst_plane);
  c_first_ = 0;
  size_ = Size(0);
  params_ready_ = now + c_.start_cycles + LoadCycles(0, size_) + (i.table ? c_.table_cycles : 0);
  ready_ = params_ready_;
  waiting_ = Activity::kStart;
  y_ = 0;
  result_free_ = std::max(result_free_, now);
  EnterGroup(ready_);
  EnterRow();
}

int VectorTimer::Size(std::uint32_t first) const {
  const bool even = static_cast<isa::Source>(i_.source) == isa::Source::kAct || first % 2 == 0;
  return pairs_ && even && first + 1 < i_.n_c ? 2 : 1;
}

std::int64_t VectorTimer::LoadCycles(std::uint32_t first, int size) const {
  const std::int64_t sets =
      i_.negative || static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kScaledAdd ? 2 : 1;
  std::int64_t records = 0;
  if (i_.param_c != 0)
    records += sets * c_.block_in * size;
  else if (first == 0)
    records += sets * c_.block_in;
  if (static_cast<isa::VectorOp>(i_.op) == isa::VectorOp::kDepthwise) {
    const std::int64_t taps = std::int64_t{i_.kernel_y} * i_.kernel_x * (c_.block_in / 8);
    if (i_.depthwise_c != 0)
      records += taps * size;
    else if (first == 0)
      records += taps;
  }
  return (records + c_.param_records - 1) / c_.param_records;
}

// Source columns in the order read. With running windows each is read once (for every `window_reuse` windows
// that it belongs to), without, once for each tap.
void VectorTimer::MakeColumns() {
  columns_.clear();
  const std::int64_t stride = i_.stride_x, taps = i_.kernel_x, width = i_.width, n = i_.n_x;
  auto inside = [&](std::int64_t x) { return x >= 0 && x < width; };
  passes_ = 1;
  if (i_.dilation_x > 1 && taps > 1) {
    for (std::int64_t x = 0; x < n; ++x) {
      const std::size_t first = columns_.size();
      for (std::int64_t k = 0; k < taps; ++k) {
        const std::int64_t px = x * stride + k * i_.dilation_x + i_.offset_x;
        if (inside(px)) columns_.push_back({px, x, 0});
      }
      if (columns_.size() == first) columns_.push_back({-1, x, 0});
      columns_.back().results = 1;
    }
    return;
  }
  Column outside{-1, 0, 0};  // windows without a tap inside the map
  std::int64_t next = 0;     // windows go from left to right: a column before this one has been met
  for (std::int64_t x = 0; x < n; ++x) {
    const std::int64_t first = x * stride + i_.offset_x;
    const std::int64_t lo = std::max<std::int64_t>(first, 0), hi = std::min(first + taps - 1, width - 1);
    for (next = std::max(next, lo); next <= hi; ++next) columns_.push_back({next, x, 0});
    Column& last = hi >= lo ? columns_.back() : outside;
    if (last.results++ == 0) last.result = x;
  }
  if (outside.results != 0) columns_.insert(columns_.begin(), outside);
  const std::int64_t windows = std::min(n, (taps + stride - 1) / stride);
  passes_ = (windows + c_.window_reuse - 1) / c_.window_reuse;
}

// The group's parameters are in use from `now`; the next group's are loaded behind them.
void VectorTimer::EnterGroup(std::int64_t now) {
  const std::uint32_t next = c_first_ + static_cast<std::uint32_t>(size_);
  if (next < i_.n_c) params_ready_ = std::max(params_ready_, now) + LoadCycles(next, Size(next));
}

// Rows of the map that the windows of a row of results meet.
std::int64_t VectorTimer::TapRows(std::int64_t y) const {
  const std::int64_t first = y * i_.stride_y + i_.offset_y, height = i_.height;
  std::int64_t rows = 0;
  for (std::int64_t k = 0; k < std::int64_t{i_.kernel_y}; ++k) {
    const std::int64_t py = first + k * i_.dilation_y;
    rows += py >= 0 && py < height;
  }
  return rows;
}

void VectorTimer::EnterRow() {
  rows_.clear();
  for (std::int64_t k = 0; k < std::int64_t{i_.kernel_y}; ++k) {
    const std::int64_t py = std::int64_t{y_} * i_.stride_y + k * i_.dilation_y + i_.offset_y;
    if (py >= 0 && py < std::int64_t{i_.height}) rows_.push_back(py);
  }
  if (rows_.empty()) rows_.push_back(-1);
  column_ = 0;
  read_ = 0;
}

bool VectorTimer::second(std::size_t column) const {
  return two_ && columns_[column].results > 0 && (columns_[column].result == 0 || i_.src2_x != 0);
}

std::int64_t VectorTimer::ReadsOf(std::size_t column) const {
  return static_cast<std::int64_t>(rows_.size()) * passes_ * (std::int64_t{1} << i_.in_planes) +
         (second(column) ? std::int64_t{1} << i_.in2_planes : 0);
}

// Banks of the next read: within a column rows, then passes, then planes; the second operand last.
BankMask VectorTimer::Address() const {
  const std::int64_t x = columns_[column_].x;
  const std::int64_t after = ReadsOf(column_) - read_;  // this read and those behind it
  const bool is_second = second(column_) && after <= std::int64_t{1} << i_.in2_planes;
  const std::int64_t planes = std::int64_t{1} << i_.in_planes;
  const std::int64_t py = is_second ? rows_[0] : rows_[static_cast<std::size_t>(read_ / (passes_ * planes))];
  if (x < 0 || py < 0) return 0;
  const std::int64_t row = i_.ring ? py % i_.ring : py;
  if (is_second)
    return Halves(i_.src2_base + row * i_.src2_row + x * i_.src2_x + std::int64_t{c_first_} * i_.src2_c +
                  ((std::int64_t{1} << i_.in2_planes) - after) * i_.src2_plane);
  if (static_cast<isa::Source>(i_.source) == isa::Source::kAcc) return 0;
  return Halves(i_.src_base + row * i_.src_row + x * i_.src_x + std::int64_t{c_first_} * i_.src_c +
                (read_ % planes) * i_.src_plane);
}

Activity VectorTimer::Step(std::int64_t now, BankMask taken, BankMask* read, bool* last) {
  *read = 0;
  *last = false;
  if (now < ready_) return waiting_;
  const Column& column = columns_[column_];
  const bool completes = column.results > 0 && read_ + 1 == ReadsOf(column_);
  if (completes && now < result_free_) return Activity::kResult;
  const BankMask banks = Address();
  if (banks & taken) return Activity::kPort;
  *read = banks;
  ready_ = now + narrow_;
  waiting_ = Activity::kBusy;
  if (completes) Finish(now);
  if (++read_ < ReadsOf(column_)) return Activity::kBusy;
  read_ = 0;
  if (++column_ < columns_.size()) return Activity::kBusy;
  ++y_;
  if (y_ < i_.n_y) {
    EnterRow();
    return Activity::kBusy;
  }
  y_ = 0;
  c_first_ += static_cast<std::uint32_t>(size_);
  if (c_first_ >= i_.n_c) {
    active_ = false;
    *last = true;
    return Activity::kBusy;
  }
  size_ = Size(c_first_);
  if (params_ready_ > ready_) {
    ready_ = params_ready_;
    waiting_ = Activity::kParam;
  }
  EnterGroup(ready_);
  EnterRow();
  return Activity::kBusy;
}

// The results that the read of this cycle completes.
void VectorTimer::Finish(std::int64_t now) {
  const Column& column = columns_[column_];
  Forget(now);
  if (pending_.empty()) pending_reach_ = 0;
  pending_reach_ |= writes_;
  const std::int64_t y = std::int64_t{i_.dst_y} + y_;
  const std::int64_t row = (i_.dst_ring ? y % i_.dst_ring : y) * i_.dst_row;
  for (std::int64_t k = 0; k < column.results; ++k) {
    const std::int64_t time = std::max(now, result_free_);
    result_free_ = time + result_cycles_;
    const std::int64_t at =
        i_.dst_base + row + (column.result + k) * i_.dst_x + std::int64_t{c_first_} * i_.dst_c;
    const std::int64_t due = time + c_.vector_depth;
    for (std::int64_t plane = 0; plane < 1 << i_.out_planes; ++plane)
      pending_.push_back({due + plane, Halves(at + plane * i_.dst_plane)});
    written_ = due + result_cycles_ - 1;
  }
}

BankMask VectorTimer::Written(std::int64_t now) {
  Forget(now);
  return !pending_.empty() && pending_.front().time == now ? pending_.front().banks : 0;
}

Quiet VectorTimer::Look(std::int64_t now, bool conflicts) const {
  if (now < ready_) return {ready_ - now, waiting_};
  if (conflicts || !flows_ || now < result_free_) return {0, Activity::kBusy};
  // Up to the last read of the last row that has as many as this one.
  const std::int64_t each = ReadsOf(column_), columns = static_cast<std::int64_t>(columns_.size());
  std::int64_t rows = 1;
  while (y_ + rows < i_.n_y && TapRows(y_ + rows) == TapRows(y_)) ++rows;
  return {(rows * columns - static_cast<std::int64_t>(column_)) * each - read_ - 1, Activity::kBusy};
}

void VectorTimer::Skip(std::int64_t now, std::int64_t cycles) {
  if (!active_ || now < ready_) return;
  const std::int64_t each = ReadsOf(column_), columns = static_cast<std::int64_t>(columns_.size());
  const std::int64_t reads = static_cast<std::int64_t>(column_) * each + read_ + cycles;
  if (const std::int64_t rows = reads / (each * columns); rows != 0) {
    y_ += static_cast<std::uint32_t>(rows);
    EnterRow();
  }
  column_ = static_cast<std::size_t>(reads / each % columns);
  read_ = reads % each;
}

}  // namespace tilewright
