// What executes regions: the fast simulator, a function of the caller, or an accelerator on a Zynq. A device is named by a
// text:
//
//   sim
//   zynq:registers=PATH[@OFFSET],memory=PATH[@PHYSICAL][,KEY=VALUE]..
//
// PATH of `registers` is a UIO file, /dev/mem with the block's physical address as OFFSET, or a file of shared memory with
// a device model behind it (targets/registers.md tells what lies there). PATH of `memory` is a u-dma-buf, /dev/mem with
// PHYSICAL, or a file of shared memory; PHYSICAL is the address by which the device knows its first byte (u-dma-buf: read
// from sysfs). Numbers are decimal or 0x. Keys:
//
//   bytes=N          size of the memory; needed for /dev/mem only
//   cache=WHAT       none: coherent; sync: cleaned and invalidated by u-dma-buf's sysfs files; uncached: mapped with
//                    O_SYNC. Default: sync for a u-dma-buf that is not dma-coherent, uncached for /dev/mem, else none
//   sysfs=DIR        where a u-dma-buf's attributes are (default /sys/class/u-dma-buf/NAME, /sys/class/udmabuf/NAME)
//   interrupt=PATH   where interrupts are read as from a UIO file (default: `registers`, if that is one); none: polling
//   timeout_ms=N     for a launch (default 10000)
//   spin_us=N        to poll before sleeping (default 50)
#ifndef TILEWRIGHT_DEVICE_H_
#define TILEWRIGHT_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tilewright/region.h"

namespace tilewright::runtime {

// A region's place on a device: what does not change is there already. It keeps the device alive.
class Placement {
 public:
  virtual ~Placement() = default;
  // The whole segments; valid as long as this lives.
  virtual std::uint8_t* inputs() = 0;
  virtual std::uint8_t* outputs() = 0;
  // Runs the stream on `inputs`, fills `outputs`. Throws Error; the next run is not affected by it.
  virtual void Run(tw_rt_stats* stats) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  // Places the regions of a program, all or none; they must outlive the placements. Throws Error.
  virtual std::vector<std::unique_ptr<Placement>> Place(const std::vector<const Region*>& regions) = 0;
};

// The fast simulator.
std::shared_ptr<Device> MakeSimulatorDevice();
// The caller's function.
std::shared_ptr<Device> MakeCallbackDevice(tw_rt_accelerator run, void* context);
// By its text. One device object serves a process: programs that open the same one share it, from any threads; another
// process cannot open it meanwhile. Throws Error TW_RT_URI where the text is wrong, TW_RT_DEVICE where no device answers.
std::shared_ptr<Device> OpenDevice(const std::string& uri);

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_DEVICE_H_
