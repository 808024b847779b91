// Losses and updates on their own.
#include "bind.hpp"

namespace hl {
namespace {

// The targets of one call, checked.
template <class T>
void set_target(NnLossJob<T>& job, const Tables<T>& tables) {
    const bool counts =
        job.kind == NnLossKind::negative_binomial || job.kind == NnLossKind::poisson;
    require(tables.num_dense() + tables.num_sparse() +
                    (job.kind == NnLossKind::cross_entropy ? 1 : 0) ==
                1,
            "nn_loss: there must be one target");
    tables.check_rows(job.rows);
    if (job.kind == NnLossKind::cross_entropy) {
        require(tables.num_indices() == 1, "nn_loss: cross entropy needs labels");
        tables.check_index(0, 0, job.width);
        job.labels = tables.view(nullptr).indices[0];
    } else if (tables.num_sparse() == 1) {
        require(counts || job.kind == NnLossKind::binary_cross_entropy,
                "nn_loss: this loss has no CSR target");
        job.counts = tables.view(nullptr).sparse;
        require(job.counts->columns == job.width, "nn_loss: the target has another width");
        require(!counts || job.counts->totals != nullptr, "nn_loss: counts need totals");
    } else {
        require(!counts, "nn_loss: this loss needs a CSR target");
        require(tables.dense_width(0) == job.width, "nn_loss: the target has another width");
        job.dense_target = tables.view(nullptr).dense[0];
    }
}

template <class T>
void loss(int kind, const Array<T>& logits, const py::list& dense, const py::list& sparse,
          const py::list& indices, const OptionalArray<T>& log_theta, double constant,
          double weight, OptionalArray<T> gradient, OptionalArray<T> log_theta_gradient,
          Array<double> row_losses, int num_threads) {
    require(kind >= 0 && kind <= 5, "nn_loss: unknown loss");
    require(logits.ndim() == 2 && logits.shape(0) >= 1 && logits.shape(1) >= 1,
            "nn_loss: logits must have shape (rows, width)");
    NnLossJob<T> job{};
    job.kind = static_cast<NnLossKind>(kind);
    job.logits = logits.data();
    job.rows = job.mean_rows = logits.shape(0);
    job.width = job.stride = job.gradient_stride = logits.shape(1);
    job.num_groups = 1;
    const Tables<T> tables(dense, sparse, indices);
    set_target(job, tables);
    if (job.kind == NnLossKind::negative_binomial) {
        require(log_theta && log_theta->ndim() == 2 && log_theta->shape(0) >= 1 &&
                    log_theta->shape(1) == job.width,
                "nn_loss: log theta must have shape (groups, width)");
        job.log_theta = log_theta->data();
        job.num_groups = log_theta->shape(0);
        if (tables.num_indices() > 0) {
            tables.check_index(0, 0, job.num_groups);
            job.groups = tables.view(nullptr).indices[0];
        }
        require(!log_theta_gradient || log_theta_gradient->size() == log_theta->size(),
                "nn_loss: the gradient of log theta has another size");
        job.log_theta_gradient = mutable_or_null(log_theta_gradient);
    }
    require(!gradient || gradient->size() == logits.size(),
            "nn_loss: the gradient has another size than the logits");
    require(row_losses.size() == job.rows, "nn_loss: row_losses must have shape (rows,)");
    job.constant = constant;
    job.weight = weight;
    job.gradient = mutable_or_null(gradient);
    job.row_losses = row_losses.mutable_data();
    const Memory<T> scratch(nn_loss_scratch(job.kind, job.rows, job.width, job.num_groups));
    job.scratch = scratch.data();
    job.num_threads = num_threads;
    run_driver(nn_drivers<T>().loss, job);
}

template <class T>
double update(int kind, const Array<double>& numbers, const Array<std::int64_t>& no_decay,
              Array<T> parameters, Array<T> first_moment, Array<T> second_moment,
              OptionalArray<T> average, const Array<T>& gradient, double learning_rate,
              std::int64_t step, int num_threads) {
    const std::int64_t count = parameters.size();
    require(first_moment.size() == count && second_moment.size() == count &&
                gradient.size() == count && (!average || average->size() == count),
            "nn_update: all buffers must have the length of the parameters");
    require(step >= 1, "nn_update: step counts from 1");
    const NnOptimizer optimizer = read_optimizer(kind, numbers, no_decay);
    const Memory<double> partial_sums(nn_update_tasks(count) + 1);
    double norm = 0;
    run_driver(nn_drivers<T>().update,
               NnUpdateJob<T>{optimizer,
                              {parameters.mutable_data(), first_moment.mutable_data(),
                               second_moment.mutable_data(), mutable_or_null(average)},
                              gradient.data(),
                              count,
                              learning_rate,
                              step,
                              partial_sums.data(),
                              &norm,
                              num_threads});
    return norm;
}

template <class T>
void define_losses(py::module_& module, const std::string& name) {
    module.def(("nn_loss_" + name).c_str(), &loss<T>, py::arg("kind"),
               py::arg("logits").noconvert(), py::arg("dense"), py::arg("sparse"),
               py::arg("indices"), py::arg("log_theta").noconvert(), py::arg("constant"),
               py::arg("weight"), py::arg("gradient").noconvert(),
               py::arg("log_theta_gradient").noconvert(), py::arg("row_losses").noconvert(),
               py::arg("num_threads"));
    module.def(("nn_update_" + name).c_str(), &update<T>, py::arg("kind"),
               py::arg("numbers").noconvert(), py::arg("no_decay").noconvert(),
               py::arg("parameters").noconvert(), py::arg("first_moment").noconvert(),
               py::arg("second_moment").noconvert(), py::arg("average").noconvert(),
               py::arg("gradient").noconvert(), py::arg("learning_rate"), py::arg("step"),
               py::arg("num_threads"));
}

}  // namespace

NnOptimizer read_optimizer(int kind, const Array<double>& numbers,
                           const Array<std::int64_t>& no_decay) {
    require(kind == 0 || kind == 1, "nn: unknown optimizer");
    require(numbers.size() == 6,
            "nn: an optimizer has beta1, beta2, eps, weight decay, clip norm, ema decay");
    require(no_decay.ndim() == 2 && no_decay.shape(1) == 2, "nn: no_decay must have shape (n, 2)");
    const double* const x = numbers.data();
    static_assert(sizeof(NnRange) == 2 * sizeof(std::int64_t), "a range is two integers");
    return {static_cast<NnOptimizerKind>(kind),
            x[0],
            x[1],
            x[2],
            x[3],
            x[4],
            x[5],
            reinterpret_cast<const NnRange*>(no_decay.data()),
            no_decay.shape(0)};
}

void register_nn_losses(py::module_& module) {
    define_losses<float>(module, "float32");
    define_losses<double>(module, "float64");
}

}  // namespace hl
