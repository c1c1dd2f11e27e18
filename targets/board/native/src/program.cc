#include "tilewright/program.h"

#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "reader.h"

namespace tilewright::runtime {
namespace {

constexpr char kMagic[] = {'T', 'W', 'H', 'P', 2, 0};

DType ParseType(Reader* r, const std::string& tensor) {
  const int type = r->Number<std::uint8_t>();
  Require(type >= 1 && type <= static_cast<int>(DType::kUint16), "tensor ", tensor, ": unknown type ", type);
  return static_cast<DType>(type);
}

TensorSpec ParseTensor(Reader* r) {
  TensorSpec spec;
  spec.name = r->Text();
  spec.type = ParseType(r, spec.name);
  spec.shape.resize(r->Number<std::uint8_t>());
  Require(spec.shape.size() <= TW_RT_MAX_RANK, "tensor ", spec.name, ": rank ", spec.shape.size());
  for (std::int64_t& dim : spec.shape) {
    dim = r->Number<std::int64_t>();
    Require(dim >= -1, "tensor ", spec.name, ": dimension ", dim);
  }
  return spec;
}

Constant ParseConstant(Reader* r, const std::vector<TensorSpec>& tensors) {
  const auto number = r->Number<std::uint32_t>();
  const auto size = r->Number<std::uint64_t>();
  Require(number < tensors.size(), "a constant for tensor ", number, " of ", tensors.size());
  const TensorSpec& spec = tensors[number];
  Tensor value(spec.type, spec.shape);
  Require(value.bytes() == size, "constant ", spec.name, ": expected ", value.bytes(), " bytes, found ", size);
  Dispatch(spec.type, [&](auto* null) {
    using T = std::remove_pointer_t<decltype(null)>;
    T* out = value.data<T>();
    for (std::int64_t i = 0; i < value.size(); ++i) {
      if constexpr (std::is_same_v<T, float>) {
        const auto bits = r->Number<std::uint32_t>();
        std::memcpy(&out[i], &bits, sizeof bits);
      } else {
        out[i] = r->Number<T>();
      }
    }
  });
  return {number, std::move(value)};
}

Attribute ParseAttribute(Reader* r) {
  Attribute a;
  a.name = r->Text();
  const int type = r->Number<std::uint8_t>();
  Require(type >= 1 && type <= 3, "attribute ", a.name, ": unknown type ", type);
  a.type = static_cast<AttributeType>(type);
  switch (a.type) {
    case AttributeType::kInt:
      a.integer = r->Number<std::int64_t>();
      break;
    case AttributeType::kInts:
      a.integers = r->Array<std::int64_t>();
      break;
    case AttributeType::kFloat:
      a.number = r->Double();
      break;
  }
  return a;
}

Step ParseStep(Reader* r, std::uint32_t regions) {
  Step step;
  const std::string name = r->Text();
  step.op = FindOp(name);
  Require(step.op != nullptr, "unknown host operator ", name);
  for (auto* numbers : {&step.inputs, &step.outputs}) {
    numbers->resize(r->Number<std::uint8_t>());
    for (std::uint32_t& n : *numbers) n = r->Number<std::uint32_t>();
  }
  const OpSpec& op = *step.op;
  Require(step.inputs.size() >= op.least_inputs && step.inputs.size() <= op.most_inputs, name, ": found ",
          step.inputs.size(), " operands");
  Require(step.outputs.size() >= op.least_outputs && step.outputs.size() <= op.most_outputs, name, ": found ",
          step.outputs.size(), " results");
  step.attributes.resize(r->Number<std::uint8_t>());
  for (Attribute& a : step.attributes) a = ParseAttribute(r);
  Require(step.attributes.size() == op.attributes.size(), name, ": expected ", op.attributes.size(),
          " attributes, found ", step.attributes.size());
  for (std::size_t i = 0; i < op.attributes.size(); ++i) {
    const Attribute& a = step.attributes[i];
    Require(a.name == op.attributes[i].name && static_cast<int>(a.type) == op.attributes[i].type, name,
            ": expected attribute ", op.attributes[i].name, ", found ", a.name);
  }
  if (name == "region") {
    Require(step.attributes[0].integer >= 0 && step.attributes[0].integer < regions, "region ",
            step.attributes[0].integer, " of ", regions);
  }
  return step;
}

}  // namespace

Program Program::Parse(const std::uint8_t* data, std::uint64_t size, std::uint32_t regions) {
  Reader r(data, size, "program");
  r.Expect(kMagic, sizeof kMagic);
  Program p;
  p.batch = r.Number<std::uint32_t>();
  Require(p.batch >= 1 && p.batch <= kMaxImages, "expected a batch of 1 to ", kMaxImages, ", found ", p.batch);
  p.tensors.resize(r.Count(4));
  for (TensorSpec& spec : p.tensors) spec = ParseTensor(&r);
  for (std::uint32_t n = r.Count(12); n > 0; --n) p.constants.push_back(ParseConstant(&r, p.tensors));
  p.inputs = r.Array<std::uint32_t>();
  p.outputs = r.Array<std::uint32_t>();
  p.steps.resize(r.Count(5));
  for (Step& step : p.steps) step = ParseStep(&r, regions);
  r.End();

  std::vector<char> defined(p.tensors.size(), 0);
  const auto define = [&](std::uint32_t n) {
    Require(n < defined.size() && !defined[n], "tensor ", n, " is defined twice or does not exist");
    defined[n] = 1;
  };
  const auto use = [&](std::uint32_t n) {
    Require(n < defined.size() && defined[n], "tensor ", n, " is used before it is defined");
  };
  for (const Constant& c : p.constants) define(c.tensor);
  for (std::uint32_t n : p.inputs) {
    define(n);
    Elements(p.tensors[n].shape, DTypeBytes(p.tensors[n].type));  // an input's shape is known
  }
  for (const Step& step : p.steps) {
    std::for_each(step.inputs.begin(), step.inputs.end(), use);
    const DType first = p.tensors[step.inputs[0]].type;  // every operator has an operand
    Require(step.op->types >> static_cast<unsigned>(first) & 1, step.op->name, ": an operand of ", DTypeName(first));
    std::for_each(step.outputs.begin(), step.outputs.end(), define);
  }
  std::for_each(p.outputs.begin(), p.outputs.end(), use);
  for (const auto* edge : {&p.inputs, &p.outputs}) {
    for (std::uint32_t n : *edge) {
      const TensorSpec& spec = p.tensors[n];
      Require(p.batch == 1 || (!spec.shape.empty() && spec.shape[0] == 1), "tensor ", spec.name, ": expected 1, ... of a batch of ",
              p.batch, ", found ", ShapeText(spec.shape));
    }
  }
  return p;
}

}  // namespace tilewright::runtime
