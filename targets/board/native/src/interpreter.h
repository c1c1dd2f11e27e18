// Runs a program: host operators one after the other, regions on a device.
#ifndef TILEWRIGHT_INTERPRETER_H_
#define TILEWRIGHT_INTERPRETER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "tilewright/device.h"
#include "tilewright/region.h"

namespace tilewright::runtime {

class Interpreter {
 public:
  Interpreter(Program program, std::vector<Region> regions);

  // Moves all regions there; where that fails (throws Error) they stay where they were.
  void set_device(const std::shared_ptr<Device>& device);
  // `inputs` in the program's order; of a batch the first dimension counts the images. Throws Error; outputs of an
  // earlier run are gone then.
  void Run(const tw_rt_tensor* inputs, std::uint32_t n_inputs, tw_rt_stats* stats);
  std::uint32_t outputs() const { return static_cast<std::uint32_t>(program_.outputs.size()); }
  // Null before a successful run.
  const Tensor* output(std::uint32_t index) const;

 private:
  Tensor& value(std::uint32_t image, std::uint32_t tensor) {
    return values_[constant_[tensor] ? 0 : image][tensor];
  }
  Call MakeCall(const Step& step, std::uint32_t image);
  // Checks the results of a call and keeps them.
  void Keep(const Step& step, Call* call, std::uint32_t image);
  void RunStep(const Step& step, tw_rt_stats* stats);
  void RunRegion(const Step& step, std::vector<Call>* calls, tw_rt_stats* stats);
  void Stack();

  Program program_;
  std::vector<std::unique_ptr<RegionRunner>> regions_;
  std::vector<char> constant_;               // by tensor
  std::vector<std::vector<Tensor>> values_;  // by image and tensor; constants with image 0
  std::vector<Tensor> outputs_;              // of all images
  bool done_ = false;
};

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_INTERPRETER_H_
