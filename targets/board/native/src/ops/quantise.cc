// quantize, dequantize, cast.
#include <cmath>
#include <limits>
#include <type_traits>

#include "../kernels.h"

namespace tilewright::runtime::ops {
namespace {

// Scale and zero point: one, or one per index of the axis.
AxisView ChannelView(const Call& call) {
  const Tensor &x = *call.in[0], &scale = *call.in[1], &zero = *call.in[2];
  Require(scale.shape() == zero.shape(), "scale is ", ShapeText(scale.shape()), ", zero point ",
          ShapeText(zero.shape()));
  if (scale.size() == 1) {
    AxisView view({x.size()}, 0);
    view.inner = view.length;
    view.length = 1;
    return view;
  }
  AxisView view(x.shape(), call.Axis());
  Require(scale.rank() == 1 && scale.size() == view.length, "expected one scale or ", view.length, ", found ",
          ShapeText(scale.shape()));
  return view;
}

template <typename Z>
void Quantize(Call& call) {
  const AxisView view = ChannelView(call);
  const float *x = call.in[0]->data<float>(), *scale = call.in[1]->data<float>();
  const Z* zero = call.in[2]->data<Z>();
  Tensor out(TypeOf<Z>::value, call.in[0]->shape());
  Z* y = out.data<Z>();
  constexpr float kLow = std::numeric_limits<Z>::lowest(), kHigh = std::numeric_limits<Z>::max();
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t c = 0; c < view.length; ++c) {
      const float s = scale[c], z = zero[c];
      const std::int64_t start = (o * view.length + c) * view.inner;
      for (std::int64_t i = start; i < start + view.inner; ++i) {
        // nearbyint rounds half to even; sums of these integers are exact, and far values saturate as floats.
        const float value = std::nearbyint(x[i] / s) + z;
        y[i] = static_cast<Z>(value > kLow ? (value < kHigh ? value : kHigh) : kLow);
      }
    }
  }
  call.out[0] = std::move(out);
}

template <typename Q>
void Dequantize(Call& call) {
  const AxisView view = ChannelView(call);
  const Q *x = call.in[0]->data<Q>(), *zero = call.in[2]->data<Q>();
  const float* scale = call.in[1]->data<float>();
  Tensor out(DType::kFloat32, call.in[0]->shape());
  float* y = out.data<float>();
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t c = 0; c < view.length; ++c) {
      const std::int64_t start = (o * view.length + c) * view.inner;
      for (std::int64_t i = start; i < start + view.inner; ++i) {
        // The difference is exact in 64 bits and rounded once to float.
        y[i] = static_cast<float>(std::int64_t{x[i]} - std::int64_t{zero[c]}) * scale[c];
      }
    }
  }
  call.out[0] = std::move(out);
}

template <typename To, typename From>
To Convert(From value) {
  if constexpr (std::is_same_v<From, float> && !std::is_same_v<To, float>) {
    if (std::isnan(value)) return 0;
    // 2^63 and 2^31 are floats, the largest integers below them are not.
    const double limit = std::ldexp(1.0, std::numeric_limits<To>::digits);
    if (value >= limit) return std::numeric_limits<To>::max();
    if (value < static_cast<double>(std::numeric_limits<To>::lowest())) return std::numeric_limits<To>::lowest();
    return static_cast<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace

void op_quantize(Call& call) {
  switch (call.in[2]->type()) {
    case DType::kInt8:
      return Quantize<std::int8_t>(call);
    case DType::kUint8:
      return Quantize<std::uint8_t>(call);
    case DType::kInt16:
      return Quantize<std::int16_t>(call);
    case DType::kUint16:
      return Quantize<std::uint16_t>(call);
    default:
      Fail(TW_RT_PACKAGE, "expected a zero point of 8 or 16 bits, found ", DTypeName(call.in[2]->type()));
  }
}

void op_dequantize(Call& call) {
  switch (call.in[0]->type()) {
    case DType::kInt8:
      return Dequantize<std::int8_t>(call);
    case DType::kUint8:
      return Dequantize<std::uint8_t>(call);
    case DType::kInt16:
      return Dequantize<std::int16_t>(call);
    case DType::kUint16:
      return Dequantize<std::uint16_t>(call);
    case DType::kInt32:
      return Dequantize<std::int32_t>(call);
    default:
      // Programs with other types are refused when they are read.
      Fail(TW_RT_INTERNAL, "dequantize of ", DTypeName(call.in[0]->type()));
  }
}

void op_cast(Call& call) {
  const Tensor& x = *call.in[0];
  Tensor out(call.declared[0]->type, x.shape());
  Dispatch(x.type(), [&](auto* from) {
    using From = std::remove_pointer_t<decltype(from)>;
    Dispatch(out.type(), [&](auto* to) {
      using To = std::remove_pointer_t<decltype(to)>;
      const From* in = x.data<From>();
      To* y = out.data<To>();
      for (std::int64_t i = 0; i < x.size(); ++i) y[i] = Convert<To>(in[i]);
    });
  });
  call.out[0] = std::move(out);
}

}  // namespace tilewright::runtime::ops
