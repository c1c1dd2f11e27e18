#include "interpreter.h"

#include <algorithm>
#include <cstring>

#include "tilewright/operator.h"

namespace tilewright::runtime {
namespace {

bool Fits(const Shape& found, const Shape& declared) {
  if (found.size() != declared.size()) return false;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (declared[i] != -1 && declared[i] != found[i]) return false;
  }
  return true;
}

const std::vector<OpSpec>& Table() {
  static const std::vector<OpSpec> table = {
#define TILEWRIGHT_HOST_OP(name, least_in, most_in, least_out, most_out, types, ...) \
  {#name, least_in, most_in, least_out, most_out, types, __VA_ARGS__, ops::op_##name},
#include "host_ops.inc"
#undef TILEWRIGHT_HOST_OP
  };
  return table;
}

}  // namespace

const OpSpec* FindOp(const std::string& name) {
  for (const OpSpec& op : Table()) {
    if (name == op.name) return &op;
  }
  return nullptr;
}

// Regions need a device; RunStep never comes here for them.
void ops::op_region(Call&) { Fail(TW_RT_INTERNAL, "a region is no kernel"); }

Tensor RunOperator(const std::string& name, const std::vector<Tensor>& inputs, const Numbers& numbers) {
  Step step;
  step.op = FindOp(name);
  Require(step.op != nullptr && step.op->kernel != ops::op_region, "unknown host operator ", name);
  for (const AttributeSpec& spec : step.op->attributes) {
    const auto found = numbers.find(spec.name);
    Require(found != numbers.end(), name, ": attribute ", spec.name, " is missing");
    Attribute attribute;
    attribute.name = spec.name;
    attribute.type = static_cast<AttributeType>(spec.type);
    if (attribute.type == AttributeType::kInts) {
      attribute.integers.assign(found->second.begin(), found->second.end());
    } else {
      Require(found->second.size() == 1, name, ": expected one number for ", spec.name, ", found ",
              found->second.size());
      attribute.number = found->second[0];
      attribute.integer = static_cast<std::int64_t>(found->second[0]);
    }
    step.attributes.push_back(attribute);
  }
  std::vector<const Tensor*> operands;
  for (const Tensor& input : inputs) operands.push_back(&input);
  Require(inputs.size() >= step.op->least_inputs && inputs.size() <= step.op->most_inputs, name, ": found ",
          inputs.size(), " operands");
  const TensorSpec open{"result", DType::kFloat32, {}};
  Call call(step, std::move(operands), {&open});
  step.op->kernel(call);
  return std::move(call.out[0]);
}

Interpreter::Interpreter(Program program, std::vector<Region> regions)
    : program_(std::move(program)),
      constant_(program_.tensors.size(), 0),
      values_(program_.batch, std::vector<Tensor>(program_.tensors.size())) {
  for (Region& region : regions) {
    Require(region.batch == program_.batch, "region ", region.name, ": expected a batch of ", program_.batch, ", found ",
            region.batch);
    const auto index = static_cast<std::uint32_t>(regions_.size());
    regions_.push_back(std::make_unique<RegionRunner>(std::move(region), index));
  }
  for (Constant& c : program_.constants) {
    constant_[c.tensor] = 1;
    value(0, c.tensor) = std::move(c.value);
  }
  program_.constants.clear();
  set_device(MakeSimulatorDevice());
}

void Interpreter::set_device(const std::shared_ptr<Device>& device) {
  std::vector<RegionRunner*> runners;
  for (const auto& runner : regions_) runners.push_back(runner.get());
  PlaceAll(runners, device.get());
}

void Interpreter::Run(const tw_rt_tensor* inputs, std::uint32_t n_inputs, tw_rt_stats* stats) {
  done_ = false;
  if (n_inputs != program_.inputs.size()) {
    Fail(TW_RT_DATA, "expected ", program_.inputs.size(), " inputs, found ", n_inputs);
  }
  for (std::uint32_t i = 0; i < n_inputs; ++i) {
    const TensorSpec& spec = program_.tensors[program_.inputs[i]];
    const tw_rt_tensor& given = inputs[i];
    Shape expected = spec.shape;
    if (program_.batch > 1) expected[0] = program_.batch;
    const auto bytes = static_cast<std::uint64_t>(Elements(spec.shape, DTypeBytes(spec.type))) * DTypeBytes(spec.type);
    const bool rank_fits = given.rank >= 0 && static_cast<std::size_t>(given.rank) == expected.size();
    if (given.dtype != static_cast<int>(spec.type) || !rank_fits ||
        !std::equal(expected.begin(), expected.end(), given.shape) || given.size != bytes * program_.batch) {
      Fail(TW_RT_DATA, "input ", spec.name, ": expected ", DTypeName(spec.type), " ", ShapeText(expected));
    }
    for (std::uint32_t image = 0; image < program_.batch; ++image) {
      Tensor one(spec.type, spec.shape);
      if (bytes > 0) std::memcpy(one.raw(), static_cast<const std::uint8_t*>(given.data) + image * bytes, bytes);
      value(image, program_.inputs[i]) = std::move(one);
    }
  }
  for (std::size_t i = 0; i < program_.steps.size(); ++i) {
    const Step& step = program_.steps[i];
    try {
      RunStep(step, stats);
    } catch (const Error& error) {
      // A region's message names the region and the layer already.
      if (std::strcmp(step.op->name, "region") == 0) throw;
      Fail(error.kind, "step ", i, " (", step.op->name, " giving ",
           program_.tensors[step.outputs[0]].name, "): ", error.what());
    }
  }
  if (program_.batch > 1) Stack();
  done_ = true;
}

Call Interpreter::MakeCall(const Step& step, std::uint32_t image) {
  std::vector<const Tensor*> in;
  for (std::uint32_t n : step.inputs) in.push_back(&value(image, n));
  std::vector<const TensorSpec*> declared;
  for (std::uint32_t n : step.outputs) declared.push_back(&program_.tensors[n]);
  return Call(step, std::move(in), std::move(declared));
}

void Interpreter::Keep(const Step& step, Call* call, std::uint32_t image) {
  for (std::size_t i = 0; i < call->out.size(); ++i) {
    const TensorSpec& spec = *call->declared[i];
    const Tensor& found = call->out[i];
    Require(found.type() == spec.type && Fits(found.shape(), spec.shape), "result ", spec.name, ": declared ",
            DTypeName(spec.type), " ", ShapeText(spec.shape), ", found ", DTypeName(found.type()), " ",
            ShapeText(found.shape()));
    value(image, step.outputs[i]) = std::move(call->out[i]);
  }
}

void Interpreter::RunStep(const Step& step, tw_rt_stats* stats) {
  std::vector<Call> calls;
  for (std::uint32_t image = 0; image < program_.batch; ++image) calls.push_back(MakeCall(step, image));
  if (step.op->kernel == ops::op_region) {
    RunRegion(step, &calls, stats);
  } else {
    for (Call& call : calls) step.op->kernel(call);
  }
  for (std::uint32_t image = 0; image < program_.batch; ++image) Keep(step, &calls[image], image);
}

void Interpreter::RunRegion(const Step& step, std::vector<Call>* calls, tw_rt_stats* stats) {
  RegionRunner& runner = *regions_[static_cast<std::size_t>(step.attributes[0].integer)];
  const Region& region = runner.region();
  std::vector<const std::uint8_t*> inputs;
  std::vector<std::uint8_t*> outputs;
  for (Call& call : *calls) {
    Require(call.in.size() == region.inputs.size() && call.out.size() == region.outputs.size(), "region ", region.name,
            ": expected ", region.inputs.size(), " operands and ", region.outputs.size(), " results");
    for (std::size_t i = 0; i < call.in.size(); ++i) {
      const MapLayout& map = region.inputs[i];
      const Tensor& operand = *call.in[i];
      Require(operand.type() == map.type && operand.shape() == map.shape, "region ", region.name, ", operand ", map.name,
              ": expected ", DTypeName(map.type), " ", ShapeText(map.shape), ", found ", DTypeName(operand.type()), " ",
              ShapeText(operand.shape()));
      inputs.push_back(operand.raw());
    }
    for (std::size_t i = 0; i < call.out.size(); ++i) {
      call.out[i] = Tensor(region.outputs[i].type, region.outputs[i].shape);
      outputs.push_back(call.out[i].raw());
    }
  }
  runner.Run(inputs, outputs, stats);
  ++stats->regions;
}

void Interpreter::Stack() {
  outputs_.clear();
  for (std::uint32_t n : program_.outputs) {
    Shape shape = value(0, n).shape();
    for (std::uint32_t image = 1; image < program_.batch; ++image) {
      if (value(image, n).shape() != shape) {
        Fail(TW_RT_DATA, "output ", program_.tensors[n].name, ": images of a batch gave shapes ", ShapeText(shape), " and ",
             ShapeText(value(image, n).shape()));
      }
    }
    shape[0] = program_.batch;
    Tensor all(value(0, n).type(), shape);
    std::uint8_t* to = all.raw();
    for (std::uint32_t image = 0; image < program_.batch; ++image) {
      const Tensor& one = value(image, n);
      if (one.bytes() > 0) std::memcpy(to, one.raw(), one.bytes());
      to += one.bytes();
    }
    outputs_.push_back(std::move(all));
  }
}

const Tensor* Interpreter::output(std::uint32_t index) const {
  if (!done_ || index >= program_.outputs.size()) return nullptr;
  const std::uint32_t tensor = program_.outputs[index];
  return program_.batch > 1 ? &outputs_[index] : &values_[0][tensor];
}

}  // namespace tilewright::runtime
