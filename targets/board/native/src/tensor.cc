#include "tilewright/tensor.h"

#include <algorithm>

namespace tilewright::runtime {

const char* DTypeName(DType type) {
  switch (type) {
    case DType::kFloat32:
      return "float32";
    case DType::kInt8:
      return "int8";
    case DType::kUint8:
      return "uint8";
    case DType::kInt32:
      return "int32";
    case DType::kInt16:
      return "int16";
    case DType::kUint16:
      return "uint16";
    case DType::kInt64:
      break;
  }
  return "int64";
}

std::size_t DTypeBytes(DType type) {
  switch (type) {
    case DType::kInt8:
    case DType::kUint8:
      return 1;
    case DType::kInt16:
    case DType::kUint16:
      return 2;
    case DType::kInt64:
      return 8;
    default:
      return 4;
  }
}

std::string ShapeText(const Shape& shape) {
  std::ostringstream text;
  text << "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text << (i ? ", " : "") << shape[i];
  text << ")";
  return text.str();
}

std::int64_t Elements(const Shape& shape, std::size_t bytes) {
  Require(shape.size() <= TW_RT_MAX_RANK, "expected a rank of at most ", TW_RT_MAX_RANK, ", found ", shape.size());
  const auto limit = static_cast<std::int64_t>(kMaxBytes / bytes);
  // Of the dimensions above 0: strides are products of these, whatever stands beside them.
  std::int64_t product = 1;
  bool empty = false;
  for (std::int64_t dim : shape) {
    Require(dim >= 0, "expected dimensions of at least 0, found shape ", ShapeText(shape));
    Require(dim == 0 || product <= limit / dim, "a tensor of shape ", ShapeText(shape), " is above the limit of ",
            kMaxBytes, " bytes");
    empty |= dim == 0;
    product *= std::max<std::int64_t>(dim, 1);
  }
  return empty ? 0 : product;
}

}  // namespace tilewright::runtime
