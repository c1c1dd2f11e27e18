// One host operator outside a program; what TVM calls by name.
#ifndef TILEWRIGHT_OPERATOR_H_
#define TILEWRIGHT_OPERATOR_H_

#include <map>
#include <string>
#include <vector>

#include "tilewright/program.h"

namespace tilewright::runtime {

// Attributes by name; one that is no list has one number.
using Numbers = std::map<std::string, std::vector<double>>;

// Runs an operator of the table with one result; `numbers` are all its attributes. Throws Error.
Tensor RunOperator(const std::string& name, const std::vector<Tensor>& inputs, const Numbers& numbers);

}  // namespace tilewright::runtime

#endif  // TILEWRIGHT_OPERATOR_H_
