// A queue of few elements: std::deque allocates and divides where a timing simulator pushes and pops every few cycles.
#ifndef TILEWRIGHT_SRC_FIFO_H_
#define TILEWRIGHT_SRC_FIFO_H_

#include <cstddef>
#include <vector>

namespace tilewright {

template <typename T>
class Fifo {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  T& front() { return slots_[first_]; }
  const T& front() const { return slots_[first_]; }
  T& back() { return (*this)[size_ - 1]; }
  T& operator[](std::size_t k) { return slots_[(first_ + k) & (slots_.size() - 1)]; }
  const T& operator[](std::size_t k) const { return slots_[(first_ + k) & (slots_.size() - 1)]; }
  void push_back(const T& value) {
    if (size_ == slots_.size()) Grow();
    slots_[(first_ + size_++) & (slots_.size() - 1)] = value;
  }
  void pop_front() {
    first_ = (first_ + 1) & (slots_.size() - 1);
    --size_;
  }

 private:
  void Grow() {
    std::vector<T> larger(2 * slots_.size());
    for (std::size_t k = 0; k < size_; ++k) larger[k] = (*this)[k];
    slots_.swap(larger);
    first_ = 0;
  }

  std::vector<T> slots_ = std::vector<T>(16);  // a power of two
  std::size_t first_ = 0, size_ = 0;
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_FIFO_H_
