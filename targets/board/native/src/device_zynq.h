// An accelerator behind registers and DMA memory, as targets/registers.md tells.
#ifndef TILEWRIGHT_DEVICE_ZYNQ_H_
#define TILEWRIGHT_DEVICE_ZYNQ_H_

#include <memory>

#include "device_uri.h"
#include "tilewright/device.h"

namespace tilewright::runtime {

std::shared_ptr<Device> OpenZynqDevice(const DeviceUri& uri);

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_DEVICE_ZYNQ_H_
