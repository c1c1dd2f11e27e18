// The table of host operators (made from targets/host_ops.py) and what a kernel sees of a step.
#ifndef TILEWRIGHT_KERNELS_H_
#define TILEWRIGHT_KERNELS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tilewright/program.h"

namespace tilewright::runtime {

// A step with its operands. A kernel sets every element of `out`; the interpreter then compares it with `declared`.
class Call {
 public:
  Call(const Step& step, std::vector<const Tensor*> in, std::vector<const TensorSpec*> declared)
      : in(std::move(in)), declared(std::move(declared)), out(this->declared.size()), step_(step) {}

  std::vector<const Tensor*> in;
  std::vector<const TensorSpec*> declared;
  std::vector<Tensor> out;

  std::int64_t Integer(const char* name) const { return Find(name).integer; }
  const std::vector<std::int64_t>& Integers(const char* name) const { return Find(name).integers; }
  double Number(const char* name) const { return Find(name).number; }

  // Attribute `axis` of operand 0, counted from the front.
  std::size_t Axis() const { return NormalAxis(Integer("axis"), in[0]->rank()); }
  static std::size_t NormalAxis(std::int64_t axis, std::size_t rank) {
    const auto n = static_cast<std::int64_t>(rank);
    Require(axis >= -n && axis < n, "axis ", axis, " of a tensor of rank ", rank);
    return static_cast<std::size_t>(axis < 0 ? axis + n : axis);
  }

 private:
  const Attribute& Find(const std::string& name) const {
    for (const Attribute& a : step_.attributes) {
      if (a.name == name) return a;
    }
    Fail(TW_RT_INTERNAL, "no attribute ", name);
  }

  const Step& step_;
};

using Kernel = void (*)(Call&);

struct AttributeSpec {
  const char* name;
  int type;
};

struct OpSpec {
  const char* name;
  unsigned least_inputs, most_inputs, least_outputs, most_outputs;
  unsigned types;  // bit n: the first operand may be of type n
  std::vector<AttributeSpec> attributes;
  Kernel kernel;
};

// Null where the table has no such operator.
const OpSpec* FindOp(const std::string& name);

namespace ops {
#define TILEWRIGHT_HOST_OP(name, ...) void op_##name(Call& call);
#include "host_ops.inc"
#undef TILEWRIGHT_HOST_OP
}  // namespace ops

// Elements before, along and behind an axis: index = (outer * length + i) * inner + rest.
struct AxisView {
  std::int64_t outer = 1, length = 1, inner = 1;
  AxisView(const Shape& shape, std::size_t axis) : length(shape[axis]) {
    for (std::size_t i = 0; i < axis; ++i) outer *= shape[i];
    for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
  }
};

// Row-major strides in elements.
inline std::vector<std::int64_t> Strides(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

// Calls f(offset) for each index of `shape` in row-major order, offset = base + sum of index * stride.
template <typename F>
void ForEachOffset(const Shape& shape, std::int64_t base, const std::vector<std::int64_t>& strides, F&& f) {
  for (std::int64_t dim : shape) {
    if (dim == 0) return;
  }
  std::vector<std::int64_t> index(shape.size(), 0);
  for (std::int64_t offset = base;;) {
    f(offset);
    std::size_t axis = shape.size();
    for (;;) {
      if (axis == 0) return;
      --axis;
      offset += strides[axis];
      if (++index[axis] < shape[axis]) break;
      offset -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_KERNELS_H_
