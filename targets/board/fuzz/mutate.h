// Damage to packages that gets behind their checksums.
#ifndef TILEWRIGHT_MUTATE_H_
#define TILEWRIGHT_MUTATE_H_

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace tilewright::fuzz {

using Bytes = std::vector<std::uint8_t>;

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  // 0 .. below - 1; not exactly even, which does not matter here.
  std::uint64_t Below(std::uint64_t below) { return engine_() % below; }
  bool Chance(int percent) { return Below(100) < static_cast<std::uint64_t>(percent); }

 private:
  std::mt19937_64 engine_;
};

struct Section {
  std::string name;
  Bytes data;
};

// Sections of a sound package, in order, and the way back with all checksums right.
std::vector<Section> Split(const Bytes& file);
Bytes Join(const std::vector<Section>& sections);

// Changes a few bits, bytes, or numbers of 2, 4 or 8 bytes; removes, repeats or adds bytes.
void MutateBytes(Random* random, Bytes* data);
// Sets fields of instructions, most of them to values that are legal by themselves; at times moves whole instructions.
void MutateStream(Random* random, Bytes* stream);
// The file with one or more things wrong: somewhere in a section, in the section table, or anywhere.
Bytes MutatePackage(Random* random, const Bytes& file);

}  // namespace tilewright::fuzz

#endif  // TILEWRIGHT_MUTATE_H_
