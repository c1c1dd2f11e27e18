// Operators that move elements: reshape, transpose, concat, slice, pad, gather.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "../kernels.h"

namespace tilewright::runtime::ops {
namespace {

// Copies the elements that a strided view of x visits into a tensor of `shape`.
Tensor Strided(const Tensor& x, const Shape& shape, std::int64_t base, const std::vector<std::int64_t>& strides) {
  Tensor out(x.type(), shape);
  Dispatch(x.type(), [&](auto* null) {
    using T = std::remove_pointer_t<decltype(null)>;
    const T* in = x.data<T>();
    T* y = out.data<T>();
    ForEachOffset(shape, base, strides, [&](std::int64_t i) { *y++ = in[i]; });
  });
  return out;
}

}  // namespace

void op_reshape(Call& call) {
  Tensor out = *call.in[0];
  Shape shape = call.Integers("shape");
  std::int64_t known = 1, open = -1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    Require(shape[i] >= -1, "dimension ", shape[i]);
    if (shape[i] == -1) {
      Require(open < 0, "more than one -1 in shape ", ShapeText(shape));
      open = static_cast<std::int64_t>(i);
    }
  }
  if (open >= 0) {
    shape[static_cast<std::size_t>(open)] = 1;
    known = Elements(shape, DTypeBytes(out.type()));
    Require(known > 0 && out.size() % known == 0, "cannot view ", ShapeText(out.shape()), " with ", known,
            " elements beside the open axis");
    shape[static_cast<std::size_t>(open)] = out.size() / known;
  }
  out.Reshape(std::move(shape));
  call.out[0] = std::move(out);
}

void op_transpose(Call& call) {
  const Tensor& x = *call.in[0];
  const std::vector<std::int64_t>& axes = call.Integers("axes");
  Require(axes.size() == x.rank(), "expected ", x.rank(), " axes, found ", axes.size());
  const std::vector<std::int64_t> own = Strides(x.shape());
  std::vector<char> seen(x.rank(), 0);
  Shape shape(x.rank());
  std::vector<std::int64_t> strides(x.rank());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t axis = Call::NormalAxis(axes[i], x.rank());
    Require(!seen[axis], "axis ", axis, " occurs twice");
    seen[axis] = 1;
    shape[i] = x.shape()[axis];
    strides[i] = own[axis];
  }
  call.out[0] = Strided(x, shape, 0, strides);
}

void op_concat(Call& call) {
  const Tensor& first = *call.in[0];
  const std::size_t axis = call.Axis();
  Shape shape = first.shape();
  shape[axis] = 0;
  for (const Tensor* x : call.in) {
    Shape other = x->shape();
    Require(x->type() == first.type() && other.size() == shape.size(), "operands differ in type or rank");
    const std::int64_t length = other[axis];
    other[axis] = shape[axis];
    Require(other == shape, "operands of shapes ", ShapeText(first.shape()), " and ", ShapeText(x->shape()));
    shape[axis] += length;
  }
  Tensor out(first.type(), shape);
  const AxisView view(shape, axis);
  const std::size_t unit = static_cast<std::size_t>(view.inner) * DTypeBytes(first.type());
  std::uint8_t* to = out.raw();
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (const Tensor* x : call.in) {
      const std::size_t bytes = static_cast<std::size_t>(x->shape()[axis]) * unit;
      if (bytes > 0) std::memcpy(to, x->raw() + static_cast<std::size_t>(o) * bytes, bytes);
      to += bytes;
    }
  }
  call.out[0] = std::move(out);
}

void op_slice(Call& call) {
  const Tensor& x = *call.in[0];
  const auto &begin = call.Integers("begin"), &end = call.Integers("end"), &step = call.Integers("stride");
  Require(begin.size() == x.rank() && end.size() == x.rank() && step.size() == x.rank(), "expected ", x.rank(),
          " limits");
  std::vector<std::int64_t> strides = Strides(x.shape());
  Shape shape(x.rank());
  std::int64_t base = 0;
  for (std::size_t i = 0; i < x.rank(); ++i) {
    const std::int64_t length = x.shape()[i], s = step[i];
    Require(s != 0 && s > INT64_MIN, "stride ", s, " on axis ", i);
    // Python's slice.indices: negative limits count from the end, then all are brought into range.
    const std::int64_t low = s > 0 ? 0 : -1, high = s > 0 ? length : length - 1;
    const auto clamp = [&](std::int64_t v) { return std::clamp(v < 0 ? v + length : v, low, high); };
    const std::int64_t b = clamp(begin[i]), e = clamp(end[i]);
    const std::int64_t span = s > 0 ? e - b : b - e, size = s > 0 ? s : -s;
    shape[i] = span > 0 ? (span - 1) / size + 1 : 0;
    if (shape[i] > 0) base += b * strides[i];
    // With one element or none the stride is never used, and |s| may be huge.
    strides[i] = shape[i] > 1 ? strides[i] * s : 0;
  }
  call.out[0] = Strided(x, shape, base, strides);
}

void op_pad(Call& call) {
  const Tensor& x = *call.in[0];
  const auto &before = call.Integers("before"), &after = call.Integers("after");
  const double value = call.Number("value");
  Require(before.size() == x.rank() && after.size() == x.rank(), "expected ", x.rank(), " pads");
  Shape shape = x.shape();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    constexpr std::int64_t kMost = kMaxBytes;
    Require(before[i] >= 0 && after[i] >= 0 && before[i] <= kMost && after[i] <= kMost, "pads ", before[i], " and ",
            after[i], " on axis ", i);
    shape[i] += before[i] + after[i];
  }
  Tensor out(x.type(), shape);
  const std::vector<std::int64_t> strides = Strides(shape);
  std::int64_t base = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) base += before[i] * strides[i];
  Dispatch(x.type(), [&](auto* null) {
    using T = std::remove_pointer_t<decltype(null)>;
    if constexpr (!std::is_same_v<T, float>) {
      // 2^63 is the first double that int64 does not hold.
      Require(value == std::floor(value) && value >= static_cast<double>(std::numeric_limits<T>::lowest()) &&
                  value < std::ldexp(1.0, std::numeric_limits<T>::digits),
              "value ", value, " is not exact in ", DTypeName(x.type()));
    }
    T* y = out.data<T>();
    std::fill_n(y, out.size(), static_cast<T>(value));
    const T* in = x.data<T>();
    ForEachOffset(x.shape(), base, strides, [&](std::int64_t i) { y[i] = *in++; });
  });
  call.out[0] = std::move(out);
}

void op_gather(Call& call) {
  const Tensor &x = *call.in[0], &indices = *call.in[1];
  const std::size_t axis = call.Axis();
  Require(indices.type() == DType::kInt32 || indices.type() == DType::kInt64, "indices of ",
          DTypeName(indices.type()));
  Shape shape(x.shape().begin(), x.shape().begin() + static_cast<std::ptrdiff_t>(axis));
  shape.insert(shape.end(), indices.shape().begin(), indices.shape().end());
  shape.insert(shape.end(), x.shape().begin() + static_cast<std::ptrdiff_t>(axis) + 1, x.shape().end());
  Tensor out(x.type(), shape);
  const AxisView view(x.shape(), axis);
  const std::size_t unit = static_cast<std::size_t>(view.inner) * DTypeBytes(x.type());
  std::uint8_t* to = out.raw();
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t i = 0; i < indices.size(); ++i) {
      std::int64_t index = indices.type() == DType::kInt32 ? indices.data<std::int32_t>()[i] : indices.data<std::int64_t>()[i];
      if (index < -view.length || index >= view.length) Fail(TW_RT_DATA, "index ", index, " of ", view.length);
      if (index < 0) index += view.length;
      if (unit > 0) std::memcpy(to, x.raw() + static_cast<std::size_t>(o * view.length + index) * unit, unit);
      to += unit;
    }
  }
  call.out[0] = std::move(out);
}

}  // namespace tilewright::runtime::ops
