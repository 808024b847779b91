// Many steps of training in one call. Everything a step does is a function of the state, the tables
// and (seed, step): a run can stop anywhere and go on with the same bits.
#include "../core/philox.hpp"
#include "train.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Fisher and Yates's shuffle; draw i of an epoch is word i % 4 of block i / 4.
HL_INLINE void shuffle(std::int64_t* rows, std::int64_t count, std::int64_t epoch, PhiloxKey key) {
    for (std::int64_t i = 0; i < count; ++i)
        rows[i] = i;
    const std::uint64_t stream =
        counter_word_1(epoch, static_cast<std::uint32_t>(Stream::permutation));
    PhiloxBlock<std::uint64_t> words{};
    std::int64_t held = -1;
    for (std::int64_t i = count - 1; i > 0; --i) {
        if (i / 4 != held) {
            held = i / 4;
            words =
                philox4x32(PhiloxBlock<std::uint64_t>{{static_cast<std::uint32_t>(epoch), stream, 0,
                                                       static_cast<std::uint32_t>(held)}},
                           key);
        }
        const std::uint64_t word = words.word[i % 4] & 0xffffffffu;
        const std::int64_t j =
            static_cast<std::int64_t>((word * static_cast<std::uint64_t>(i + 1)) >> 32);
        const std::int64_t kept = rows[i];
        rows[i] = rows[j];
        rows[j] = kept;
    }
}

template <class T>
Status prepare_batch(const NnTrainJob<T>& job, std::int64_t step) {
    const std::int64_t rows = job.pass.rows, tasks = parts(rows, nn_prepare_rows);
    struct Context {
        const NnTrainJob<T>& job;
        std::int64_t step, rows;
    } context{job, step, rows};
    const Task task = [](void* pointer, std::int64_t number) {
        const Context& c = *static_cast<const Context*>(pointer);
        const std::int64_t begin = number * nn_prepare_rows;
        const std::int32_t returned =
            c.job.prepare(c.job.context, c.step, begin, smaller(begin + nn_prepare_rows, c.rows),
                          c.job.prepared, c.job.prepared_indices);
        return returned == 0 ? Status::success()
                             : Status::user_function("nn_train", returned, begin);
    };
    return parallel_for(tasks, job.pass.num_threads, task, &context);
}

template <class T>
Status evaluate_losses(const NnTrainJob<T>& job, const NnPass<T>& pass) {
    for (std::int64_t k = 0; k < job.num_losses; ++k) {
        const Status status = nn_loss(loss_job(job, pass, k));
        if (!status.ok()) return status;
    }
    return Status::success();
}

template <class T>
HL_INLINE void average_losses(const NnTrainJob<T>& job, double* out) {
    const std::int64_t rows = job.pass.rows;
    for (std::int64_t k = 0; k < job.num_losses; ++k) {
        const double* const losses = job.row_losses + k * job.loss_stride;
        const double sum = strand_sum(
            rows, [&](auto pack, std::int64_t r) { return load_as<decltype(pack)>(losses + r); });
        out[k] = sum / static_cast<double>(rows);
    }
}

// Forward, the losses, and back, layer by layer.
template <class T>
Status whole_batch(const NnTrainJob<T>& job, const NnPass<T>& pass) {
    Status status = nn_forward(pass);
    if (!status.ok()) return status;
    clear(pass);
    status = evaluate_losses(job, pass);
    return status.ok() ? nn_backward(pass) : status;
}

template <class T>
Status train_step(const NnTrainJob<T>& job, const NnPass<T>& pass, std::int64_t number) {
    const Status status =
        job.tiles.memory != nullptr ? nn_tiles_of_batch(job, pass) : whole_batch(job, pass);
    if (!status.ok()) return status;
    average_losses(job, job.step_losses + number * job.num_losses);
    return nn_update(NnUpdateJob<T>{job.optimizer, job.state, pass.parameter_gradient,
                                    pass.plan.program.num_parameters, job.learning_rates[number],
                                    pass.step + 1, job.partial_sums, job.norms + number,
                                    pass.num_threads});
}

// The rows of the batch of a step: the incomplete one at the end of an epoch is left out.
template <class T>
HL_INLINE const std::int64_t* rows_of_step(const NnTrainJob<T>& job, std::int64_t step,
                                           std::int64_t& epoch) {
    const std::int64_t batches = job.num_table_rows / job.pass.rows;
    if (step / batches != epoch) {
        epoch = step / batches;
        shuffle(job.batch_rows, job.num_table_rows, epoch, philox_key(job.pass.seed));
    }
    return job.batch_rows + step % batches * job.pass.rows;
}

template <class T>
Status train(const NnTrainJob<T>& job) {
    NnPass<T> pass = job.pass;
    std::int64_t epoch = -1;
    for (std::int64_t number = 0; number < job.num_steps; ++number) {
        if (stop_requested()) return Status::interrupted("nn_train");
        pass.step = job.pass.step + number;
        if (job.prepare != nullptr) {
            const Status status = prepare_batch(job, pass.step);
            if (!status.ok()) return status;
        } else {
            pass.tables.rows = rows_of_step(job, pass.step, epoch);
        }
        const Status status = train_step(job, pass, number);
        if (!status.ok()) return status;
        *job.steps_done = number + 1;
    }
    return Status::success();
}

template <class T>
Status evaluate(const NnTrainJob<T>& job) {
    Status status = nn_forward(job.pass);
    for (std::int64_t k = 0; status.ok() && k < job.num_losses; ++k) {
        NnLossJob<T> loss = loss_job(job, job.pass, k);
        loss.gradient = nullptr;
        loss.log_theta_gradient = nullptr;
        status = nn_loss(loss);
    }
    return status;
}

}  // namespace

Status nn_evaluate(const NnTrainJob<float>& job) {
    return evaluate(job);
}
Status nn_evaluate(const NnTrainJob<double>& job) {
    return evaluate(job);
}

Status nn_train(const NnTrainJob<float>& job) {
    return train(job);
}
Status nn_train(const NnTrainJob<double>& job) {
    return train(job);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
