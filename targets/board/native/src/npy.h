// NumPy's .npy files (versions 1 to 3 of the format): row-major arrays of the runtime's types.
#ifndef TILEWRIGHT_NPY_H_
#define TILEWRIGHT_NPY_H_

#include <string>
#include <vector>

#include "tilewright/runtime_c.h"
#include "tilewright/tensor.h"

namespace tilewright::runtime {

// Throw Error TW_RT_DATA, naming the file.
std::vector<std::uint8_t> ReadFile(const std::string& path);
// `path` is for messages.
Tensor ParseNpy(const std::vector<std::uint8_t>& data, const std::string& path);
Tensor ReadNpy(const std::string& path);
// Through a temporary file beside it, so nobody sees half a file.
void WriteNpy(const std::string& path, const tw_rt_tensor& tensor);

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_NPY_H_
