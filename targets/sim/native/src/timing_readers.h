// MATRIX and VECTOR in time: they wait for nobody but each other, at ACT's read ports.
//
// While one goes on as its Look said it is left alone. Bring makes up for the cycles before `now` where another
// unit wants to know its banks, and Sync has it looked at anew.
#ifndef TILEWRIGHT_SRC_TIMING_READERS_H_
#define TILEWRIGHT_SRC_TIMING_READERS_H_

#include "timing_matrix.h"
#include "timing_vector.h"

namespace tilewright {

class Readers {
 public:
  Readers(const TimingConfig& config, const Banks& banks, bool leap)
      : c_(config), leaps_(leap), matrix_(config, banks), vector_(config, banks) {}

  const MatrixTimer& matrix() const { return matrix_; }
  const VectorTimer& vector() const { return vector_; }
  void StartMatrix(const isa::Matrix& i, std::int64_t now);
  void StartVector(const isa::Vector& i, std::int64_t now);

  // What a unit does in a cycle, and whether that was the last of its instruction.
  struct Cycle {
    Activity activity;
    bool last;
  };
  // A cycle of those that work; `wanted` are the banks that STORE wants to read in it. Returns those that they
  // read, as far as STORE must know.
  BankMask Step(std::int64_t now, BankMask wanted, Cycle* matrix, Cycle* vector);

  // The first cycle that Step must do, if no instruction starts; before that each does `Doing`.
  std::int64_t until() const {
    return std::min(matrix_.active() ? matrix_until_ : kNever, vector_.active() ? vector_until_ : kNever);
  }
  Activity MatrixDoing() const { return matrix_look_.activity; }
  Activity VectorDoing() const { return vector_look_.activity; }
  // The rest is asked for cycles before that only.
  // Whether a STORE that wants `bank` gets it from `now` on, for at most `cycles`.
  enum class Port { kFree, kTaken, kOpen };
  Port PortOf(BankMask bank, std::int64_t now, std::int64_t* cycles);
  // Banks that they read in this cycle, as far as a STORE that wants `bank` must know; all where it is taken.
  BankMask Taken(BankMask bank, std::int64_t now);
  // Banks that VECTOR writes in this cycle.
  BankMask Written(std::int64_t now) {
    if (vector_.active()) BringVector(now);
    return vector_.Written(now);
  }
  // Banks that Written may name in this cycle and the next ones.
  BankMask WritesFrom(std::int64_t now) { return vector_.writes() | vector_.due(now); }

 private:
  void BringMatrix(std::int64_t now);
  void SyncMatrix(std::int64_t now);
  void BringVector(std::int64_t now);
  void SyncVector(std::int64_t now);
  BankMask StepMatrix(std::int64_t now, BankMask watched, Cycle* cycle);
  BankMask StepVector(std::int64_t now, BankMask taken, Cycle* cycle);
  std::int64_t KeptOut(std::int64_t now);
  MatrixTimer::Span SpanFor(BankMask bank, std::int64_t now);

  const TimingConfig& c_;
  const bool leaps_;
  MatrixTimer matrix_;
  VectorTimer vector_;
  Quiet matrix_look_{}, vector_look_{};
  std::int64_t matrix_at_ = 0, matrix_until_ = 0, vector_at_ = 0, vector_until_ = 0;
  MatrixTimer::Span run_{}, row_{};  // of MATRIX, each known up to a cycle
  std::int64_t run_until_ = 0, row_until_ = 0;
};

}  // namespace tilewright

#endif  // TILEWRIGHT_SRC_TIMING_READERS_H_
