# Builds that look for faults of memory and of undefined behaviour (`make sanitize`, `make fuzz`) or for data races.
# TILEWRIGHT_SANITIZE is -fsanitize='s list, such as "address,undefined,float-cast-overflow" or "thread", or empty.
set(TILEWRIGHT_SANITIZE "" CACHE STRING "sanitizers as for -fsanitize=, or empty")
if(TILEWRIGHT_SANITIZE)
  # A finding ends the program, so that no test can pass over it.
  add_compile_options(-fsanitize=${TILEWRIGHT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${TILEWRIGHT_SANITIZE})
  # An index beyond a vector's size but within what it has allocated is no fault to the sanitizer.
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()
