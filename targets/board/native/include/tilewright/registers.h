// The registers of the accelerator. Written by `python -m tilewright.targets.register_text` from targets/registers.py;
// targets/registers.md tells the rules; do not edit.
#ifndef TILEWRIGHT_REGISTERS_H_
#define TILEWRIGHT_REGISTERS_H_

#include <cstdint>

namespace tilewright {
namespace registers {

constexpr std::uint32_t kPageBytes = 4096;
constexpr std::uint32_t kMagicValue = 0x4d525754;
constexpr std::uint32_t kContractValue = 1;
constexpr std::uint32_t kAlignment = 256;  // bytes, of streams and segments

// Offsets in bytes. A 64-bit value is two registers, the low half first.
constexpr std::uint32_t kMagic = 0x000;  // device: 0x4d525754, `TWRM`
constexpr std::uint32_t kContract = 0x004;  // device: 1: version of this page
constexpr std::uint32_t kConfigWords = 0x008;  // device: 32-bit words of CONFIG
constexpr std::uint32_t kControl = 0x040;  // host: bit 0 START, bit 1 RESET; the device sets it to 0 when it has taken it
constexpr std::uint32_t kTicket = 0x044;  // host: number of the launch, not 0, chosen by the host
constexpr std::uint32_t kInterruptEnable = 0x048;  // host: 1: the line is INTERRUPT_STATUS; 0: the line is low
constexpr std::uint32_t kStreamAddress = 0x050;  // host, 64 bits: physical address of the stream
constexpr std::uint32_t kStreamBytes = 0x058;  // host: bytes of the stream, FINISH included
constexpr std::uint32_t kBase = 0x060;  // host, 64 bits, 4: physical addresses of the DRAM segments, by base register
constexpr std::uint32_t kSize = 0x080;  // host, 4: bytes of the DRAM segments, by base register
constexpr std::uint32_t kState = 0x0c0;  // device: 0 IDLE, 1 RUNNING, 2 DONE, 3 ERROR
constexpr std::uint32_t kFinished = 0x0c4;  // device: TICKET of the last launch that ended; 0 after a reset
constexpr std::uint32_t kInterruptStatus = 0x0c8;  // device: 1 while STATE is DONE or ERROR
constexpr std::uint32_t kUnits = 0x0cc;  // device: a byte a unit: 0 empty, 1 busy, 2 waits for a token, 3 waits for DRAM
constexpr std::uint32_t kFetched = 0x0d0;  // device: instructions handed to the units' queues
constexpr std::uint32_t kErrorCode = 0x0d4;  // device: see the table of errors; 0 unless STATE is ERROR
constexpr std::uint32_t kErrorInstruction = 0x0d8;  // device: number in the stream of the faulting one; 0xffffffff: none
constexpr std::uint32_t kErrorAddress = 0x0e0;  // device, 64 bits: physical address of a BUS error
constexpr std::uint32_t kCycles = 0x100;  // device, 64 bits: from START until STATE changes
constexpr std::uint32_t kDramReadBytes = 0x108;  // device, 64 bits: by LOAD
constexpr std::uint32_t kDramWriteBytes = 0x110;  // device, 64 bits: by STORE
constexpr std::uint32_t kFetchBytes = 0x118;  // device, 64 bits: of the stream
constexpr std::uint32_t kMatrixSteps = 0x120;  // device, 64 bits: each block_in * block_out products
constexpr std::uint32_t kVectorReads = 0x128;  // device, 64 bits: half words, or halves of a vector, of the first operand
constexpr std::uint32_t kRetired = 0x130;  // device, 4: instructions retired by LOAD, MATRIX, VECTOR, STORE
constexpr std::uint32_t kConfig = 0x200;  // device, 128: the overlay, see its table


enum class Control : std::uint32_t {
  kStart = 1,
  kReset = 2,
};

enum class State : std::uint32_t {
  kIdle = 0,
  kRunning = 1,
  kDone = 2,
  kError = 3,
};
constexpr const char* kStateNames[] = {"IDLE", "RUNNING", "DONE", "ERROR"};

enum class UnitState : std::uint32_t {
  kEmpty = 0,
  kBusy = 1,
  kToken = 2,
  kDram = 3,
};
constexpr const char* kUnitStateNames[] = {"EMPTY", "BUSY", "TOKEN", "DRAM"};

enum class Error : std::uint32_t {
  kNone = 0,
  kEncoding = 1,
  kOperand = 2,
  kAddress = 3,
  kAlignment = 4,
  kReadOnly = 5,
  kUninitialised = 6,
  kOverlap = 7,
  kRace = 8,
  kToken = 9,
  kFinish = 10,
  kLaunch = 16,
  kBus = 17,
  kInternal = 18,
};

struct ErrorName {
  std::uint32_t code;
  const char* name;
  const char* meaning;
};
constexpr ErrorName kErrors[] = {
    {0, "NONE", "no error"},
    {1, "ENCODING", "an unknown opcode, or bits behind the last field"},
    {2, "OPERAND", "fields that are illegal together"},
    {3, "ADDRESS", "a DRAM address outside of its segment, or a scratchpad address outside of it"},
    {4, "ALIGNMENT", "a DRAM address that is no multiple of the half word"},
    {5, "READ_ONLY", "a STORE to segment 0 or 2"},
    {6, "UNINITIALISED", "a read of what nothing has written"},
    {7, "OVERLAP", "an instruction that meets its own destination"},
    {8, "RACE", "accesses of two units that no token orders"},
    {9, "TOKEN", "a token counter above 255, or tokens left over at FINISH"},
    {10, "FINISH", "the stream's bytes end without FINISH, or go on behind it"},
    {16, "LAUNCH", "an address or size in the registers that is not aligned, or a stream of no bytes"},
    {17, "BUS", "a SLVERR or DECERR answer on AXI; ERROR_ADDRESS says where"},
    {18, "INTERNAL", "the device cannot go on by no fault of the stream"},
};

// CONFIG: the SHA-256 of the overlay in the first words, then its fields, texts filled up with zeros.
constexpr std::uint32_t kHashWords = 8;
struct ConfigField {
  const char* name;
  int word;
  int words;
  bool text;  // else a signed integer
};
constexpr ConfigField kConfigFields[] = {
    {"name", 8, 8, true},
    {"block_in", 16, 1, false},
    {"block_out", 17, 1, false},
    {"inp_bits", 18, 1, false},
    {"wgt_bits", 19, 1, false},
    {"acc_bits", 20, 1, false},
    {"vector_lanes", 21, 1, false},
    {"act_kib", 22, 1, false},
    {"wgt_kib", 23, 1, false},
    {"acc_kib", 24, 1, false},
    {"param_kib", 25, 1, false},
    {"disp_entries", 26, 1, false},
    {"displacement_min", 27, 1, false},
    {"displacement_max", 28, 1, false},
    {"mhz", 29, 1, false},
    {"dsp_pumping", 30, 1, false},
    {"board.name", 31, 8, true},
    {"board.part", 39, 8, true},
    {"board.lut", 47, 1, false},
    {"board.ff", 48, 1, false},
    {"board.bram36", 49, 1, false},
    {"board.dsp", 50, 1, false},
    {"board.dram_read_ports", 51, 1, false},
    {"board.dram_read_bytes_per_cycle", 52, 1, false},
    {"board.dram_write_bytes_per_cycle", 53, 1, false},
    {"board.dram_bytes_per_cycle", 54, 1, false},
    {"board.dram_burst_bytes", 55, 1, false},
    {"board.dram_outstanding", 56, 1, false},
    {"board.dram_latency_cycles", 57, 1, false},
};
constexpr std::uint32_t kConfigWordsValue = 58;

}  // namespace registers
}  // namespace tilewright

#endif  // TILEWRIGHT_REGISTERS_H_
