#include "timing_readers.h"

#include <algorithm>

namespace tilewright {

void Readers::StartMatrix(const isa::Matrix& i, std::int64_t now) {
  SyncVector(now);  // which may have to wait for banks from now on
  matrix_.Start(i, now);
  matrix_at_ = matrix_until_ = now;
}

void Readers::StartVector(const isa::Vector& i, std::int64_t now) {
  vector_.Start(i, now);
  vector_at_ = vector_until_ = now;
}

BankMask Readers::Step(std::int64_t now, BankMask wanted, Cycle* matrix, Cycle* vector) {
  BankMask reads = 0;
  const bool vector_steps = vector_.active() && (now >= vector_until_ || (wanted & vector_.reads()) != 0);
  if (matrix_.active()) reads = StepMatrix(now, wanted | (vector_steps ? vector_.reads() : 0), matrix);
  if (vector_steps)
    reads |= StepVector(now, reads, vector);
  else if (vector_.active())
    *vector = {vector_look_.activity, false};
  return reads;
}

void Readers::BringMatrix(std::int64_t now) {
  if (matrix_at_ < now) matrix_.Skip(matrix_at_, matrix_look_, now - matrix_at_);
  matrix_at_ = now;
}

void Readers::SyncMatrix(std::int64_t now) {
  BringMatrix(now);
  matrix_until_ = now;
}

void Readers::BringVector(std::int64_t now) {
  if (vector_look_.activity == Activity::kPort) vector_at_ = std::max(vector_at_, now);
  // LOAD asks for results that are yet to be written, so the last reads are made one by one.
  const std::int64_t noted = c_.vector_depth + vector_.writing() + 1;
  if (now - vector_at_ > noted) {
    vector_.Skip(vector_at_, now - noted - vector_at_);
    vector_at_ = now - noted;
  }
  for (; vector_at_ < now; ++vector_at_) {
    BankMask read;
    bool last;
    vector_.Step(vector_at_, 0, &read, &last);
  }
}

void Readers::SyncVector(std::int64_t now) {
  if (vector_.active()) BringVector(now);
  vector_at_ = vector_until_ = now;
}

// `watched` are the banks that others want to read, and the result those that MATRIX took.
BankMask Readers::StepMatrix(std::int64_t now, BankMask watched, Cycle* cycle) {
  const bool seen = (matrix_.reach() & watched) != 0;
  if (now < matrix_until_ && !seen) {
    *cycle = {matrix_look_.activity, false};
    return 0;
  }
  SyncMatrix(now);
  bool stepped;
  cycle->activity = matrix_.Step(now, &stepped, &cycle->last);
  matrix_at_ = matrix_until_ = now + 1;
  if (!cycle->last && leaps_) {
    matrix_look_ = matrix_.Look(now + 1);
    run_until_ = row_until_ = now;
    matrix_until_ += matrix_look_.cycles;
  }
  return stepped && seen ? matrix_.StepBanks() : 0;
}

// `taken` are the banks that MATRIX took, and the result those that VECTOR did.
BankMask Readers::StepVector(std::int64_t now, BankMask taken, Cycle* cycle) {
  SyncVector(now);
  BankMask read;
  cycle->activity = vector_.Step(now, taken, &read, &cycle->last);
  vector_at_ = vector_until_ = now + 1;
  if (!cycle->last && leaps_) {
    if (cycle->activity == Activity::kPort)
      vector_look_ = {KeptOut(now + 1), Activity::kPort};
    else
      vector_look_ = vector_.Look(now + 1, (matrix_.reach() & vector_.reads()) != 0);
    vector_until_ += vector_look_.cycles;
  }
  return read;
}

// Cycles from `now` on in which MATRIX reads what VECTOR's next read wants.
std::int64_t Readers::KeptOut(std::int64_t now) {
  if (!matrix_.active() || now >= matrix_until_ || matrix_look_.activity != Activity::kBusy) return 0;
  const BankMask bank = vector_.NextBanks(now);
  const MatrixTimer::Span span = SpanFor(bank, now);
  return span.always && (span.banks & bank) != 0 ? std::min(matrix_until_ - now, span.steps) : 0;
}

// What MATRIX reads from `now` on: in its run where that tells about `bank`, in its row otherwise.
MatrixTimer::Span Readers::SpanFor(BankMask bank, std::int64_t now) {
  if (now >= run_until_) {
    BringMatrix(now);
    run_ = matrix_.Run();
    run_until_ = now + run_.steps;
  }
  if ((run_.banks & bank) == 0 || run_.always) return {run_.banks, run_.always, run_until_ - now};
  if (now >= row_until_) {
    BringMatrix(now);
    row_ = matrix_.Row();
    row_until_ = now + row_.steps;
  }
  return {row_.banks, row_.always, row_until_ - now};
}

Readers::Port Readers::PortOf(BankMask bank, std::int64_t now, std::int64_t* cycles) {
  if ((vector_.reads() & bank) != 0 && vector_look_.activity == Activity::kBusy) return Port::kOpen;
  if ((matrix_.reach() & bank) == 0 || matrix_look_.activity != Activity::kBusy) return Port::kFree;
  const MatrixTimer::Span span = SpanFor(bank, now);
  *cycles = std::min(*cycles, span.steps);
  if ((span.banks & bank) == 0) return Port::kFree;
  return span.always ? Port::kTaken : Port::kOpen;
}

BankMask Readers::Taken(BankMask bank, std::int64_t now) {
  std::int64_t cycles = 1;
  const Port port = PortOf(bank, now, &cycles);
  if (port != Port::kOpen) return port == Port::kTaken ? ~BankMask{0} : 0;
  BankMask banks = 0;
  if (vector_.active() && vector_look_.activity != Activity::kPort) {
    BringVector(now);
    banks = vector_.NextBanks(now);
  }
  if (matrix_.active() && matrix_look_.activity == Activity::kBusy) {
    BringMatrix(now);
    banks |= matrix_.NextBanks();
  }
  return banks;
}

}  // namespace tilewright
