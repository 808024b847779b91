// Commits the fault that it is asked for, to prove that the sanitizers of this build report it.
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "check.hpp"

namespace {

void race() {
    int shared = 0;
    std::thread other([&] { ++shared; });
    ++shared;
    other.join();
    std::printf("%d\n", shared);
}

void overrun(int size) {
    std::vector<int> values(static_cast<std::size_t>(size), 1);
    int* const volatile data = values.data();  // volatile: the compiler must not see the fault
    std::printf("%d\n", data[size]);
}

void overflow(int size) {
    const int largest = std::numeric_limits<int>::max();
    std::printf("%d\n", largest - 2 + size);
}

}  // namespace

int main(int count, char** arguments) {
    CHECK(count == 2);
    if (std::strcmp(arguments[1], "race") == 0) race();
    if (std::strcmp(arguments[1], "overrun") == 0) overrun(count + 1);
    if (std::strcmp(arguments[1], "overflow") == 0) overflow(count + 1);
    return 0;
}
