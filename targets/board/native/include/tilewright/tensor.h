// Tensors of the host part: seven element types, row-major, packed.
#ifndef TILEWRIGHT_TENSOR_H_
#define TILEWRIGHT_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tilewright/runtime_error.h"

namespace tilewright::runtime {

enum class DType : std::uint8_t { kFloat32 = 1, kInt8 = 2, kUint8 = 3, kInt32 = 4, kInt64 = 5, kInt16 = 6, kUint16 = 7 };

const char* DTypeName(DType type);
std::size_t DTypeBytes(DType type);

using Shape = std::vector<std::int64_t>;

std::string ShapeText(const Shape& shape);

// Largest tensor or segment, so that a program of a few bytes cannot ask for all memory. Fuzzing sets a smaller one.
#ifndef TILEWRIGHT_MAX_BYTES
#define TILEWRIGHT_MAX_BYTES (std::uint64_t{1} << 30)
#endif
inline constexpr std::uint64_t kMaxBytes = TILEWRIGHT_MAX_BYTES;
// Images of a batch at most.
inline constexpr std::uint32_t kMaxImages = 16;

// Product of the dimensions; throws where one is negative or the product times `bytes` passes kMaxBytes.
std::int64_t Elements(const Shape& shape, std::size_t bytes);

template <typename T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct TypeOf<std::int8_t> {
  static constexpr DType value = DType::kInt8;
};
template <>
struct TypeOf<std::uint8_t> {
  static constexpr DType value = DType::kUint8;
};
template <>
struct TypeOf<std::int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct TypeOf<std::int64_t> {
  static constexpr DType value = DType::kInt64;
};
template <>
struct TypeOf<std::int16_t> {
  static constexpr DType value = DType::kInt16;
};
template <>
struct TypeOf<std::uint16_t> {
  static constexpr DType value = DType::kUint16;
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(DType type, Shape shape)
      : type_(type), shape_(std::move(shape)), size_(Elements(shape_, DTypeBytes(type))) {
    // int64 units keep every element type aligned; zeroed, so no result depends on old memory.
    storage_.resize((static_cast<std::size_t>(size_) * DTypeBytes(type) + 7) / 8);
  }

  DType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  std::size_t rank() const { return shape_.size(); }
  std::int64_t size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * DTypeBytes(type_); }
  const std::uint8_t* raw() const { return reinterpret_cast<const std::uint8_t*>(storage_.data()); }
  std::uint8_t* raw() { return reinterpret_cast<std::uint8_t*>(storage_.data()); }

  template <typename T>
  const T* data() const {
    Check(TypeOf<T>::value);
    return reinterpret_cast<const T*>(raw());
  }
  template <typename T>
  T* data() {
    Check(TypeOf<T>::value);
    return reinterpret_cast<T*>(raw());
  }

  // The same elements under another shape of equal size.
  void Reshape(Shape shape) {
    Require(Elements(shape, DTypeBytes(type_)) == size_, "cannot view ", ShapeText(shape_), " as ", ShapeText(shape));
    shape_ = std::move(shape);
  }

 private:
  void Check(DType type) const {
    Require(type == type_, "expected a tensor of ", DTypeName(type), ", found ", DTypeName(type_));
  }

  DType type_ = DType::kFloat32;
  Shape shape_;
  std::int64_t size_ = 0;
  std::vector<std::int64_t> storage_;
};

// Calls f with a null pointer of the element type.
template <typename F>
decltype(auto) Dispatch(DType type, F&& f) {
  switch (type) {
    case DType::kFloat32:
      return f(static_cast<float*>(nullptr));
    case DType::kInt8:
      return f(static_cast<std::int8_t*>(nullptr));
    case DType::kUint8:
      return f(static_cast<std::uint8_t*>(nullptr));
    case DType::kInt32:
      return f(static_cast<std::int32_t*>(nullptr));
    case DType::kInt16:
      return f(static_cast<std::int16_t*>(nullptr));
    case DType::kUint16:
      return f(static_cast<std::uint16_t*>(nullptr));
    case DType::kInt64:
      break;
  }
  return f(static_cast<std::int64_t*>(nullptr));
}

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_TENSOR_H_
