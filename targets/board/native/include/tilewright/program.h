// The host part: tensors, constants and steps, as targets/program.py lays them out.
#ifndef TILEWRIGHT_PROGRAM_H_
#define TILEWRIGHT_PROGRAM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tilewright/tensor.h"

namespace tilewright::runtime {

enum class AttributeType : std::uint8_t { kInt = 1, kInts = 2, kFloat = 3 };

struct Attribute {
  std::string name;
  AttributeType type = AttributeType::kInt;
  std::int64_t integer = 0;
  std::vector<std::int64_t> integers;
  double number = 0;
};

struct TensorSpec {
  std::string name;
  DType type = DType::kFloat32;
  Shape shape;  // -1: known at run time only
};

struct OpSpec;

struct Step {
  const OpSpec* op = nullptr;
  std::vector<std::uint32_t> inputs, outputs;
  std::vector<Attribute> attributes;
};

struct Constant {
  std::uint32_t tensor;
  Tensor value;
};

struct Program {
  std::uint32_t batch = 1;  // images of a run; every other step runs for each of them, regions for all at once
  std::vector<TensorSpec> tensors;
  std::vector<Constant> constants;
  std::vector<std::uint32_t> inputs, outputs;
  std::vector<Step> steps;

  // Checks everything that does not depend on data: operators, attributes, numbers, order. Throws Error.
  static Program Parse(const std::uint8_t* data, std::uint64_t size, std::uint32_t regions);
};

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_PROGRAM_H_
