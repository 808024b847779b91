#include "bind.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "bind_status.hpp"
#include "dispatch.hpp"
#include "finite.hpp"
#include "interrupt.hpp"
#include "pool.hpp"

namespace py = pybind11;

namespace hl {
namespace {

bool interpreter_is_finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing() != 0;
#else
    return _Py_IsFinalizing() != 0;
#endif
}

// Runs the signal handlers of Python on the thread that called us. While the interpreter shuts
// down, asking for the GIL would end or hang this thread.
bool python_wants_to_stop() {
    if (interpreter_is_finalizing()) return false;
    const PyGILState_STATE gil = PyGILState_Ensure();
    const bool stop = PyErr_CheckSignals() != 0;
    PyGILState_Release(gil);
    return stop;
}

py::dict status_codes() {
    py::dict codes;
    codes["ok"] = static_cast<int>(Code::ok);
    codes["interrupted"] = static_cast<int>(Code::interrupted);
    codes["out_of_memory"] = static_cast<int>(Code::out_of_memory);
    codes["invalid_argument"] = static_cast<int>(Code::invalid_argument);
    codes["user_function"] = static_cast<int>(Code::user_function);
    codes["internal"] = static_cast<int>(Code::internal);
    codes["cuda"] = static_cast<int>(Code::cuda);
    codes["numerical"] = static_cast<int>(Code::numerical);
    return codes;
}

py::tuple compiled_isa_levels() {
#if defined(HL_MULTI_ISA)
    return py::make_tuple("base", "v3", "v4");
#elif defined(HL_ONLY_ISA)
    return py::make_tuple(isa_name(Isa::HL_ONLY_ISA));
#else
    return py::make_tuple("base");
#endif
}

py::dict build_info() {
    py::dict info;
    info["version"] = HL_VERSION;
    info["compiler"] = HL_COMPILER;
    info["flags"] = HL_FLAGS;
    info["build_type"] = HL_BUILD_TYPE;
    info["sanitizer"] = HL_SANITIZER;
    info["cuda"] = HL_CUDA_COMPILER;
    info["isa_levels"] = compiled_isa_levels();
    info["pybind11"] = PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(
        PYBIND11_VERSION_MINOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_PATCH);
    return info;
}

bool finite_buffers(const py::array_t<std::uint64_t, py::array::c_style>& addresses,
                    const py::array_t<std::int64_t, py::array::c_style>& sizes, int precision,
                    int num_threads) {
    if (addresses.size() != sizes.size())
        throw py::value_error("all_finite: addresses and sizes must agree in length");
    bool finite = true;
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = all_finite(addresses.data(), sizes.data(), sizes.size(),
                            static_cast<Precision>(precision), num_threads, finite);
    }
    throw_status(status);
    return finite;
}

void refuse_bad_environment() {
    for (const char* error : {isa_error(), num_threads_error()}) {
        if (error != nullptr) throw py::import_error(error);
    }
}

}  // namespace

void register_core(py::module_& module) {
    refuse_bad_environment();
    register_status_translator();
    set_interrupt_hook(python_wants_to_stop);

    module.def("get_num_threads", &get_num_threads);
    module.def("set_num_threads", &set_num_threads, py::arg("count"));
    module.def("isa", [] { return isa_name(active_isa()); });
    module.def("detected_isa", [] { return isa_name(detected_isa()); });
    module.def("compiler", [] { return HL_COMPILER; });
    module.def("build_info", &build_info);
    module.def("status_codes", &status_codes);
    module.def("all_finite", &finite_buffers, py::arg("addresses").noconvert(),
               py::arg("sizes").noconvert(), py::arg("precision"), py::arg("num_threads"));
    register_test_hooks(module);
}

}  // namespace hl
