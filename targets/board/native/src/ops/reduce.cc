// softmax, argmax, reductions, topk.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>

#include "../kernels.h"

namespace tilewright::runtime::ops {
namespace {

bool IsNan(float x) { return std::isnan(x); }
template <typename T>
bool IsNan(T) {
  return false;
}

// Softmax along an axis, or its logarithm. Sums are in double, so their order does not show in the float result.
void Softmax(Call& call, bool logarithm) {
  const Tensor& x = *call.in[0];
  const AxisView view(x.shape(), call.Axis());
  const float* in = x.data<float>();
  Tensor out(x.type(), x.shape());
  float* y = out.data<float>();
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t i = 0; i < view.inner; ++i) {
      const std::int64_t start = o * view.length * view.inner + i;
      const std::int64_t end = start + view.length * view.inner;
      float top = -std::numeric_limits<float>::infinity();
      for (std::int64_t at = start; at < end; at += view.inner) top = std::max(top, in[at]);
      double sum = 0;
      for (std::int64_t at = start; at < end; at += view.inner) {
        y[at] = logarithm ? in[at] - top : std::exp(in[at] - top);
        sum += logarithm ? std::exp(static_cast<double>(y[at])) : static_cast<double>(y[at]);
      }
      const double term = logarithm ? std::log(sum) : sum;
      for (std::int64_t at = start; at < end; at += view.inner) {
        y[at] = static_cast<float>(logarithm ? y[at] - term : y[at] / term);
      }
    }
  }
  call.out[0] = std::move(out);
}

Shape Reduced(const Shape& shape, const std::vector<char>& gone, bool keep) {
  Shape result;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (!gone[i]) {
      result.push_back(shape[i]);
    } else if (keep) {
      result.push_back(1);
    }
  }
  return result;
}

// First index of the largest (sign 1) or smallest (sign -1); a NaN wins, as in NumPy.
void ArgBest(Call& call, bool largest) {
  const Tensor& x = *call.in[0];
  const std::size_t axis = call.Axis();
  const AxisView view(x.shape(), axis);
  Require(view.length > 0, "an axis without elements has no largest one");
  const DType type = call.declared[0]->type;
  Require(type == DType::kInt64 || type == DType::kInt32, "expected a result of int32 or int64");
  std::vector<char> gone(x.rank(), 0);
  gone[axis] = 1;
  Tensor out(type, Reduced(x.shape(), gone, call.Integer("keepdims") != 0));
  Dispatch(x.type(), [&](auto* null) {
    using T = std::remove_pointer_t<decltype(null)>;
    const T* in = x.data<T>();
    for (std::int64_t o = 0; o < view.outer; ++o) {
      for (std::int64_t i = 0; i < view.inner; ++i) {
        const T* line = in + o * view.length * view.inner + i;
        std::int64_t best = 0;
        for (std::int64_t k = 1; k < view.length; ++k) {
          const T a = line[k * view.inner], b = line[best * view.inner];
          if (!IsNan(b) && (IsNan(a) || (largest ? a > b : a < b))) best = k;
        }
        const std::int64_t at = o * view.inner + i;
        if (type == DType::kInt64) {
          out.data<std::int64_t>()[at] = best;
        } else {
          out.data<std::int32_t>()[at] = static_cast<std::int32_t>(best);
        }
      }
    }
  });
  call.out[0] = std::move(out);
}

// A plan of a reduction: for each element of x, in order, which element of the result it belongs to.
struct Reduction {
  Shape shape;                        // with keepdims as asked
  std::vector<std::int64_t> strides;  // of the result, seen from x
  std::int64_t count = 1;             // elements per result
};

Reduction Plan(const Call& call) {
  const Tensor& x = *call.in[0];
  std::vector<char> gone(x.rank(), call.Integers("axes").empty() ? 1 : 0);
  for (std::int64_t axis : call.Integers("axes")) gone[Call::NormalAxis(axis, x.rank())] = 1;
  Reduction plan;
  const Shape kept = Reduced(x.shape(), gone, true);
  plan.strides = Strides(kept);
  for (std::size_t i = 0; i < gone.size(); ++i) {
    if (!gone[i]) continue;
    plan.strides[i] = 0;
    plan.count *= x.shape()[i];
  }
  plan.shape = Reduced(x.shape(), gone, call.Integer("keepdims") != 0);
  return plan;
}

// Sum is the accumulator's type: double for floats, unsigned for integers, which wrap.
template <typename T, typename Sum>
void AddUp(Call& call, bool mean) {
  const Tensor& x = *call.in[0];
  const Reduction plan = Plan(call);
  Require(!mean || plan.count > 0, "the mean of no elements");
  Tensor out(x.type(), plan.shape);
  std::vector<Sum> sums(static_cast<std::size_t>(out.size()), 0);
  const T* in = x.data<T>();
  ForEachOffset(x.shape(), 0, plan.strides, [&](std::int64_t i) { sums[static_cast<std::size_t>(i)] += static_cast<Sum>(*in++); });
  T* y = out.data<T>();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    y[i] = static_cast<T>(mean ? sums[i] / static_cast<Sum>(plan.count) : sums[i]);
  }
  call.out[0] = std::move(out);
}

void Extreme(Call& call, bool largest) {
  const Tensor& x = *call.in[0];
  const Reduction plan = Plan(call);
  Require(plan.count > 0, "the extreme of no elements");
  Tensor out(x.type(), plan.shape);
  std::vector<char> seen(static_cast<std::size_t>(out.size()), 0);
  Dispatch(x.type(), [&](auto* null) {
    using T = std::remove_pointer_t<decltype(null)>;
    const T* in = x.data<T>();
    T* y = out.data<T>();
    ForEachOffset(x.shape(), 0, plan.strides, [&](std::int64_t i) {
      char& known = seen[static_cast<std::size_t>(i)];
      if (!known || IsNan(*in) || (largest ? *in > y[i] : *in < y[i])) y[i] = !known || !IsNan(y[i]) ? *in : y[i];
      known = 1;
      ++in;
    });
  });
  call.out[0] = std::move(out);
}

}  // namespace

void op_softmax(Call& call) { Softmax(call, false); }
void op_log_softmax(Call& call) { Softmax(call, true); }
void op_argmax(Call& call) { ArgBest(call, true); }
void op_argmin(Call& call) { ArgBest(call, false); }

void op_reduce_sum(Call& call) {
  switch (call.in[0]->type()) {
    case DType::kFloat32:
      return AddUp<float, double>(call, false);
    case DType::kInt32:
      return AddUp<std::int32_t, std::uint64_t>(call, false);
    case DType::kInt64:
      return AddUp<std::int64_t, std::uint64_t>(call, false);
    default:
      // Programs with other types are refused when they are read.
      Fail(TW_RT_INTERNAL, "reduce_sum of ", DTypeName(call.in[0]->type()));
  }
}
void op_reduce_mean(Call& call) { AddUp<float, double>(call, true); }
void op_reduce_max(Call& call) { Extreme(call, true); }
void op_reduce_min(Call& call) { Extreme(call, false); }

void op_topk(Call& call) {
  const Tensor& x = *call.in[0];
  const std::size_t axis = call.Axis();
  const AxisView view(x.shape(), axis);
  const std::int64_t k = call.Integer("k");
  Require(k >= 0 && k <= view.length, "k = ", k, " of ", view.length);
  const bool largest = call.Integer("largest") != 0;
  Shape shape = x.shape();
  shape[axis] = k;
  Tensor values(x.type(), shape), indices(DType::kInt64, shape);
  Dispatch(x.type(), [&](auto* null) {
    using T = std::remove_pointer_t<decltype(null)>;
    const T* in = x.data<T>();
    T* value = values.data<T>();
    std::int64_t* index = indices.data<std::int64_t>();
    std::vector<std::int64_t> order(static_cast<std::size_t>(view.length));
    for (std::int64_t o = 0; o < view.outer; ++o) {
      for (std::int64_t i = 0; i < view.inner; ++i) {
        const T* line = in + o * view.length * view.inner + i;
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](std::int64_t a, std::int64_t b) {
          const T p = line[a * view.inner], q = line[b * view.inner];
          if (IsNan(p) != IsNan(q)) return IsNan(q);
          if (p > q || p < q) return largest ? p > q : p < q;
          return a < b;
        });
        for (std::int64_t n = 0; n < k; ++n) {
          const std::int64_t at = (o * k + n) * view.inner + i;
          index[at] = order[static_cast<std::size_t>(n)];
          value[at] = line[index[at] * view.inner];
        }
      }
    }
  });
  call.out[0] = std::move(values);
  call.out[1] = std::move(indices);
}

}  // namespace tilewright::runtime::ops
