// Operators of one element, and of two with NumPy's broadcasting.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "../kernels.h"

namespace tilewright::runtime::ops {
namespace {

template <typename T, typename F>
void MapTyped(Call& call, F f) {
  const Tensor& x = *call.in[0];
  Tensor out(x.type(), x.shape());
  const T* in = x.data<T>();
  T* y = out.data<T>();
  for (std::int64_t i = 0; i < x.size(); ++i) y[i] = f(in[i]);
  call.out[0] = std::move(out);
}

template <typename F>
void MapFloat(Call& call, F f) {
  MapTyped<float>(call, f);
}

template <typename F>
void MapAny(Call& call, F f) {
  Dispatch(call.in[0]->type(), [&](auto* null) { MapTyped<std::remove_pointer_t<decltype(null)>>(call, f); });
}

Shape Broadcast(const Shape& a, const Shape& b) {
  Shape shape(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
    Require(x == y || x == 1 || y == 1, "shapes ", ShapeText(a), " and ", ShapeText(b), " do not broadcast");
    shape[shape.size() - 1 - i] = x == 1 ? y : x;
  }
  return shape;
}

// Strides of an operand as seen from the result: 0 along broadcast axes.
std::vector<std::int64_t> BroadcastStrides(const Shape& from, const Shape& to) {
  const std::vector<std::int64_t> own = Strides(from);
  std::vector<std::int64_t> strides(to.size(), 0);
  const std::size_t shift = to.size() - from.size();
  for (std::size_t i = 0; i < from.size(); ++i) strides[i + shift] = from[i] == 1 ? 0 : own[i];
  return strides;
}

template <typename T, typename F>
void ZipTyped(Call& call, F f) {
  const Tensor &a = *call.in[0], &b = *call.in[1];
  const T *x = a.data<T>(), *z = b.data<T>();
  Tensor out(a.type(), Broadcast(a.shape(), b.shape()));
  T* y = out.data<T>();
  if (a.shape() == b.shape()) {
    for (std::int64_t i = 0; i < out.size(); ++i) y[i] = f(x[i], z[i]);
  } else {
    T* to = y;
    ForEachOffset(out.shape(), 0, BroadcastStrides(a.shape(), out.shape()), [&](std::int64_t i) { *to++ = x[i]; });
    ForEachOffset(out.shape(), 0, BroadcastStrides(b.shape(), out.shape()), [&](std::int64_t i) {
      *y = f(*y, z[i]);
      ++y;
    });
  }
  call.out[0] = std::move(out);
}

template <typename F>
void ZipAny(Call& call, F f) {
  Dispatch(call.in[0]->type(), [&](auto* null) { ZipTyped<std::remove_pointer_t<decltype(null)>>(call, f); });
}

// Integers wrap: the arithmetic is done unsigned, where that is defined.
template <typename T, typename F>
T Wrapping(T a, T b, F f) {
  if constexpr (std::is_same_v<T, float>) {
    return f(a, b);
  } else {
    return static_cast<T>(f(static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b)));
  }
}

bool IsNan(float x) { return std::isnan(x); }
template <typename T>
bool IsNan(T) {
  return false;
}

}  // namespace

void op_relu(Call& call) {
  MapAny(call, [](auto x) { return x < 0 ? decltype(x){0} : x; });
}
void op_negative(Call& call) {
  MapAny(call, [](auto x) {
    if constexpr (std::is_same_v<decltype(x), float>) {
      return -x;
    } else {
      return Wrapping(decltype(x){0}, x, [](auto a, auto b) { return a - b; });
    }
  });
}
void op_abs(Call& call) {
  MapAny(call, [](auto x) {
    if constexpr (std::is_same_v<decltype(x), float>) {
      return std::fabs(x);
    } else {
      return x < 0 ? Wrapping(decltype(x){0}, x, [](auto a, auto b) { return a - b; }) : x;
    }
  });
}
void op_sigmoid(Call& call) {
  MapFloat(call, [](float x) { return 1.0f / (1.0f + std::exp(-x)); });
}
void op_tanh(Call& call) {
  MapFloat(call, [](float x) { return std::tanh(x); });
}
void op_exp(Call& call) {
  MapFloat(call, [](float x) { return std::exp(x); });
}
void op_log(Call& call) {
  MapFloat(call, [](float x) { return std::log(x); });
}
void op_sqrt(Call& call) {
  MapFloat(call, [](float x) { return std::sqrt(x); });
}
void op_rsqrt(Call& call) {
  MapFloat(call, [](float x) { return 1.0f / std::sqrt(x); });
}
void op_erf(Call& call) {
  MapFloat(call, [](float x) { return std::erf(x); });
}
void op_floor(Call& call) {
  MapFloat(call, [](float x) { return std::floor(x); });
}
void op_ceil(Call& call) {
  MapFloat(call, [](float x) { return std::ceil(x); });
}
void op_round(Call& call) {
  MapFloat(call, [](float x) { return std::nearbyint(x); });
}
void op_leaky_relu(Call& call) {
  const auto alpha = static_cast<float>(call.Number("alpha"));
  MapFloat(call, [alpha](float x) { return x > 0 ? x : alpha * x; });
}
void op_clip(Call& call) {
  const double lo = call.Number("lo"), hi = call.Number("hi");
  Require(lo <= hi, "clip from ", lo, " to ", hi);
  MapAny(call, [lo, hi](auto x) {
    using T = decltype(x);
    if constexpr (std::is_same_v<T, std::int64_t>) {
      // Limits beyond int64 do not clip, and a double holds no odd number above 2^53: compare as integers.
      const double edge = 9223372036854775808.0;
      const std::int64_t low = lo < -edge ? INT64_MIN : lo >= edge ? INT64_MAX : static_cast<std::int64_t>(std::ceil(lo));
      const std::int64_t high = hi >= edge ? INT64_MAX : hi < -edge ? INT64_MIN : static_cast<std::int64_t>(std::floor(hi));
      return x < low ? low : x > high ? high : x;
    } else if constexpr (std::is_same_v<T, float>) {
      const auto low = static_cast<float>(lo), high = static_cast<float>(hi);
      return x < low ? low : x > high ? high : x;
    } else {
      const double low = std::max(std::ceil(lo), static_cast<double>(std::numeric_limits<T>::lowest()));
      const double high = std::min(std::floor(hi), static_cast<double>(std::numeric_limits<T>::max()));
      // Limits wholly outside the type: the nearest value that there is.
      if (low > std::numeric_limits<T>::max()) return std::numeric_limits<T>::max();
      if (high < std::numeric_limits<T>::lowest()) return std::numeric_limits<T>::lowest();
      return static_cast<T>(x < low ? low : x > high ? high : static_cast<double>(x));
    }
  });
}

void op_add(Call& call) {
  ZipAny(call, [](auto a, auto b) { return Wrapping(a, b, [](auto p, auto q) { return p + q; }); });
}
void op_subtract(Call& call) {
  ZipAny(call, [](auto a, auto b) { return Wrapping(a, b, [](auto p, auto q) { return p - q; }); });
}
void op_multiply(Call& call) {
  ZipAny(call, [](auto a, auto b) { return Wrapping(a, b, [](auto p, auto q) { return p * q; }); });
}
void op_divide(Call& call) {
  ZipTyped<float>(call, [](float a, float b) { return a / b; });
}
void op_power(Call& call) {
  ZipTyped<float>(call, [](float a, float b) { return std::pow(a, b); });
}
void op_maximum(Call& call) {
  ZipAny(call, [](auto a, auto b) { return IsNan(a) || a > b ? a : b; });
}
void op_minimum(Call& call) {
  ZipAny(call, [](auto a, auto b) { return IsNan(a) || a < b ? a : b; });
}

void op_expand(Call& call) {
  const Tensor& x = *call.in[0];
  const Shape& shape = call.Integers("shape");
  Elements(shape, DTypeBytes(x.type()));
  Require(Broadcast(x.shape(), shape) == shape, "shape ", ShapeText(x.shape()), " does not broadcast to ",
          ShapeText(shape));
  Tensor out(x.type(), shape);
  Dispatch(x.type(), [&](auto* null) {
    using T = std::remove_pointer_t<decltype(null)>;
    const T* in = x.data<T>();
    T* y = out.data<T>();
    ForEachOffset(shape, 0, BroadcastStrides(x.shape(), shape), [&](std::int64_t i) { *y++ = in[i]; });
  });
  call.out[0] = std::move(out);
}

}  // namespace tilewright::runtime::ops
