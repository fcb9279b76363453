/**
 * @file
 * libnada: turns words into new image domains (StyleGAN-NADA), inverts pictures and renders them. C99 and C++11.
 *
 * Generated from src/capi (build/header.rs): do not edit. To regenerate: NADA_WRITE_HEADER=1 cargo build
 *
 * A picture restyled by words:
 *
 *     nada_context *context = NULL;
 *     nada_model *model = NULL;
 *     nada_generator *generator = NULL;
 *     nada_image *picture = NULL, *restyled = NULL;
 *     nada_domain *domain = NULL;
 *     nada_adaptation_options options;
 *     nada_render_options render;
 *
 *     if (nada_context_new(NULL, &context) || nada_model_open(context, "starter", &model)
 *         || nada_model_generator(model, NULL, &generator) || nada_image_open("face.png", NULL, &picture)
 *         || nada_model_adaptation_options(model, &options, sizeof options)
 *         || nada_render_options_init(&render, sizeof render))
 *         return fprintf(stderr, "%s\n", nada_last_error_message()), 1;
 *     options.target_text = "a pencil sketch";
 *     if (nada_generator_adapt(generator, &options, NULL, &domain))
 *         return fprintf(stderr, "%s\n", nada_last_error_message()), 1;
 *     const nada_domain *domains[] = {domain};
 *     render.domains = domains;
 *     render.domain_count = 1;
 *     if (nada_generator_restyle(generator, picture, NULL, &render, NULL, &restyled)
 *         || nada_image_save_png(restyled, "sketch.png", NULL))
 *         return fprintf(stderr, "%s\n", nada_last_error_message()), 1;
 *     nada_image_free(restyled); nada_domain_free(domain); nada_image_free(picture);
 *     nada_generator_free(generator); nada_model_free(model); nada_context_free(context);
 *
 * What holds everywhere:
 *
 * Errors. Functions that can fail return a nada_status, NADA_OK (0) on success, and write results through pointers that come last.
 * nada_last_error_message() says what went wrong, and nada_last_error() in parts, for each thread. A call that fails or is cancelled leaves
 * its inputs as they were and its result pointers NULL (or 0); an adaptation stays at its last complete step. Functions that return a value
 * cannot fail: they give 0 or "" for NULL. A handle of the wrong type is an error, not a crash; a handle that was freed must not be passed
 * in, as everywhere in C. Nothing unwinds across this interface; where the machine is out of memory in the middle of a computation, which
 * limits by estimate make rare (nada_context_options.memory_limit), the process ends.
 *
 * Long calls. Those that may take long have a `const nada_call *`: who is told of progress, and the token that ends the call. NULL is for
 * nothing special. What a cancelled call was writing is gone, and a file that it was to replace is as it was.
 *
 * Ownership. Handles that a call gives belong to the caller, who frees each with its own _free function, in any order: a handle keeps
 * alive what it needs. Whatever is passed in is borrowed for the call alone, unless a function says otherwise.
 *
 * Threads. Handles never change once made, so any number of threads may use one at the same time; only an adaptation serves one call
 * at a time (a second one gets NADA_BUSY), and a cancel token is there to be triggered from elsewhere. Free a handle when no other thread
 * uses it. A call computes on threads of its context and returns when it is done; pictures, which belong to no context, are read and shrunk
 * on threads of one that are idle, else on the caller's. Progress callbacks run on the thread that made
 * the call.
 *
 * Structs that may grow begin with struct_size, and are filled by a function that takes sizeof: set fields after it. Where every default
 * is 0 or has to be set, as of nada_call and nada_frame, `{sizeof x, ...}` does it too. Enumerations and status numbers may get new
 * members: they are passed as int32_t. Check nada_abi_version() once: see there.
 *
 * Strings are UTF-8 and end with NUL; names of files may be any bytes where the system has such. Colours are sRGB, rows go from the top,
 * sizes are in pixels unless a function says otherwise.
 */
#ifndef NADA_H
#define NADA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif


/* ============================================================================================================== */
/**
 * @defgroup nada_handles Handles, and structs that are explained further down
 * @{
 */

/** A flag that any thread may raise to end the calls that it was given to: see nada_call. */
typedef struct nada_cancel nada_cancel;

/** Where the library computes. Generators, CLIPs and model packs are opened through one and work on its device and threads. */
typedef struct nada_context nada_context;

/** The model packs that were found at one moment, nearest first. Never changes once made. */
typedef struct nada_model_list nada_model_list;

/** A model pack. Its generator and CLIPs are read when they are first asked for, and then shared. Never changes otherwise. */
typedef struct nada_model nada_model;

/** A picture: sRGB with straight alpha, floats inside. Never changes once made. */
typedef struct nada_image nada_image;

/** Points of a latent space, and the noise maps that belong to them where an inversion optimised them. Never changes once made. */
typedef struct nada_latent nada_latent;

/** A StyleGAN2 generator: what draws pictures from latents. Never changes once opened. */
typedef struct nada_generator nada_generator;

/** A CLIP: what compares pictures with words. Never changes once opened. */
typedef struct nada_clip nada_clip;

/** An encoder of pSp, e4e or ReStyle. Never changes once opened. */
typedef struct nada_encoder nada_encoder;

/** An adaptation under way. The only handle that changes: one call at a time uses it, and a second one gets NADA_BUSY. */
typedef struct nada_adaptation nada_adaptation;

/**
 * A domain: a change of a generator, with the words that asked for it and the fingerprint of the generator it belongs to. Never changes
 * once made.
 */
typedef struct nada_domain nada_domain;

/** The faces that were found in a photo, the surest first. Never changes once made. */
typedef struct nada_faces nada_faces;

/** What a folder of installed domains held when it was opened. Never changes: open the folder again to see what is new. */
typedef struct nada_gallery nada_gallery;

/** What domains reach on a pack's held-out latents. Never changes once made. */
typedef struct nada_evaluation nada_evaluation;

typedef struct nada_error nada_error;
typedef struct nada_progress nada_progress;
typedef struct nada_call nada_call;
typedef struct nada_context_options nada_context_options;
typedef struct nada_pixels nada_pixels;
typedef struct nada_pixels_mut nada_pixels_mut;
typedef struct nada_layer nada_layer;
typedef struct nada_render_options nada_render_options;
typedef struct nada_inversion_options nada_inversion_options;
typedef struct nada_adaptation_options nada_adaptation_options;
typedef struct nada_snapshot nada_snapshot;
typedef struct nada_outcome nada_outcome;
typedef struct nada_frame nada_frame;
typedef struct nada_frame_options nada_frame_options;
typedef struct nada_face nada_face;
typedef struct nada_measures nada_measures;
typedef struct nada_clip_measures nada_clip_measures;

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_status Statuses
 * What a call answered.
 * @{
 */

/** What a call answered. Numbers never change and are never used again; newer libraries may add some, so treat unknown ones as failures. */
typedef int32_t nada_status;
enum {
    /** All went well. */
    NADA_OK = 0,
    /** An argument is NULL, out of range, of the wrong shape, not finite or not UTF-8; the message names it. */
    NADA_INVALID_ARGUMENT = 1,
    /** A file or a model pack does not exist. */
    NADA_NOT_FOUND = 2,
    /** Reading or writing failed. */
    NADA_IO = 3,
    /** A file is not what it claims to be: truncated, of another format, with missing keys, wrong shapes or numbers that are not finite. */
    NADA_BAD_FORMAT = 4,
    /** The request is understood, and this library does not support it. */
    NADA_UNSUPPORTED = 5,
    /** Two things do not belong together, such as a domain and a generator that it was not made from. */
    NADA_MISMATCH = 6,
    /** A progress callback or a cancel token said stop. Inputs are unchanged; an adaptation stays at its last complete step. */
    NADA_CANCELLED = 7,
    /** A computation gave a number that is not finite. */
    NADA_NOT_FINITE = 8,
    /** A failure inside the library: a bug, please report it. */
    NADA_INTERNAL = 9,
    /** There is not enough memory for what was asked, or no thread could be started. */
    NADA_OUT_OF_MEMORY = 10,
    /** The library panicked: a bug, please report it. The process is sound; an adaptation that was being trained can only be freed. */
    NADA_PANIC = 11,
    /** The handle is in use by another call right now (adaptations only). */
    NADA_BUSY = 12,
};

/**
 * The name of a status, such as "NADA_NOT_FOUND"; "NADA_UNKNOWN" for a number that this library does not know.
 * Threads: any. Owner: the library; valid for ever. Never NULL.
 */
const char *nada_status_name(int32_t status);

/**
 * What a status means in a few English words, without the particulars that nada_last_error_message() has.
 * Threads: any. Owner: the library; valid for ever. Never NULL.
 */
const char *nada_status_description(int32_t status);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_error Errors
 * What went wrong.
 * @{
 */

/**
 * What went wrong, for programs that offer help. The library fills it; newer libraries may append fields. Its texts are never NULL: "" where
 * there is nothing to say. They are the thread's, and valid until the next failing call on it.
 */
struct nada_error {
    /** As passed to nada_last_error(). */
    size_t struct_size;
    /** As nada_last_error_message() gives it. */
    const char *message;
    /** The file or folder that could not be found, read, written or used. */
    const char *file;
    /** The tensor or the field in it. */
    const char *key;
    /** The argument, or the field of a struct, that is wrong. */
    const char *argument;
    /** What would have to be there, such as "a tensor of shape [3, 512]". */
    const char *needed;
    /** The bytes that the call would need where that is more than it may (NADA_OUT_OF_MEMORY), by estimate; else 0. */
    uint64_t memory;
    /** What the call returned; NADA_OK where none failed on this thread. */
    int32_t status;
    /** Always 0. */
    uint32_t reserved;
};

/**
 * The message of the last call that failed on this thread, in English and UTF-8: it names the file, the key or the argument, and what
 * would be right. "" where none failed yet. Calls that succeed leave it alone.
 * Threads: each has its own message. Owner: the library; valid until the next failing call on this thread. Never NULL.
 */
const char *nada_last_error_message(void);

/**
 * The last call that failed on this thread, in parts: for programs that offer to fetch a missing file, or to try with less. Calls that
 * succeed leave it alone. struct_size is sizeof(nada_error).
 * Threads: each has its own. Owner: the texts are the library's, valid until the next failing call on this thread.
 * Fails: NADA_INVALID_ARGUMENT, which is the last failure then.
 */
nada_status nada_last_error(nada_error *error, size_t struct_size);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_version Versions
 * Whether library and program fit together.
 * @{
 */

/**
 * The ABI that this header describes. Its low 16 bits grow when something is added that older libraries lack; its high 16 bits, which are the
 * number in the name of the library's file (libnada.so.3), when something that was there changed. See nada_abi_check().
 */
#define NADA_ABI_VERSION 196608

/**
 * NADA_ABI_VERSION of the library that is loaded. A program works with it when the high 16 bits equal those of its header's
 * NADA_ABI_VERSION and the whole is not smaller.
 * Threads: any.
 */
uint32_t nada_abi_version(void);

/**
 * Whether the library that is loaded serves a program compiled with this header; call nada_abi_check(NADA_ABI_VERSION) once, first.
 * Threads: any. Fails: NADA_MISMATCH; the message says both numbers and which of the two to renew.
 */
nada_status nada_abi_check(uint32_t header_version);

/** The library's version, such as "0.2.0". Threads: any. Owner: the library; valid for ever. Never NULL. */
const char *nada_version(void);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_log The library's log
 * What it does, for those who look for a fault.
 * @{
 */

/** How much a line of the log matters. */
typedef int32_t nada_log_level;
enum {
    /** No line at all. */
    NADA_LOG_OFF = 0,
    /** Something failed that no call's status tells. */
    NADA_LOG_ERROR = 1,
    /** Something was taken for granted or left out. */
    NADA_LOG_WARN = 2,
    /** What was opened: its kind, its name, its size, and how long that took. */
    NADA_LOG_INFO = 3,
    /** Calls that failed, with their messages. */
    NADA_LOG_DEBUG = 4,
    /** Everything. */
    NADA_LOG_TRACE = 5,
};

/**
 * Told each line of the log, from the thread that has something to say: any thread of the program or the library, several at once. `message`
 * is UTF-8 without a line end at its end, borrowed until the callback returns. It may call the library, which logs nothing of that; only
 * nada_log_set_callback() answers NADA_BUSY there, and waits for the callback where another thread calls it: the callback must not wait for
 * such a thread. It must return normally: no exception, no longjmp.
 */
typedef void (*nada_log_callback)(nada_log_level level, const char *message, void *user_data);

/**
 * Has `callback` told what the library logs, up to `level`, in place of the one before; NULL for nobody, as at first. When it returns, the
 * one before is not called any more. One for the whole process.
 * Threads: any. Owner: `user_data` is the caller's, and must stay valid until the callback is replaced.
 * Fails: NADA_INVALID_ARGUMENT, NADA_BUSY (from inside a callback), NADA_UNSUPPORTED (a Rust program that has a logger of its own: it gets the
 * lines).
 */
nada_status nada_log_set_callback(nada_log_callback callback, void *user_data, nada_log_level level);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_cancel Cancel tokens
 * Flags that end calls.
 * @{
 */

/**
 * Makes a token, not triggered.
 * Threads: any. Owner: the caller frees *cancel with nada_cancel_free().
 * Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_cancel_new(nada_cancel **cancel);

/**
 * Ends the calls that were given this token, now and until it is reset; they return NADA_CANCELLED.
 * Threads: any, also while calls run with the token; not from a signal handler.
 * Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_cancel_trigger(const nada_cancel *cancel);

/**
 * Makes a triggered token ready for another call.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_cancel_reset(const nada_cancel *cancel);

/** 1 for a triggered token, 0 for others and for NULL. Threads: any. */
uint32_t nada_cancel_is_triggered(const nada_cancel *cancel);

/**
 * Frees a token; NULL is allowed. A call that still runs with it goes on and can no longer be cancelled by it.
 * Threads: any, once no other thread is inside one of the token's own functions.
 */
void nada_cancel_free(nada_cancel *cancel);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_call Calls that may take long
 * Their progress, and what ends them.
 * @{
 */

/** A progress callback's answer. */
typedef int32_t nada_flow;
enum {
    /** Go on. */
    NADA_CONTINUE = 0,
    /** End the call, which returns NADA_CANCELLED. */
    NADA_STOP = 1,
};

/** What a progress callback is told after each complete step. The library fills it; newer libraries may append fields. */
struct nada_progress {
    /** The size of this struct in the library that fills it. */
    size_t struct_size;
    /** A picture of the state reached, on steps that have one (snapshots), else NULL. Borrowed: valid until the callback returns. */
    const nada_image *preview;
    /** Steps done, from 1. */
    uint32_t step;
    /** Steps at the most; a stop rule may end earlier. */
    uint32_t total;
    /** The loss of this step. */
    float loss;
    /** Always 0. */
    uint32_t reserved;
};

/**
 * Called after each step of a long call, on the thread that made the call; the work waits for it. Returns NADA_CONTINUE or NADA_STOP
 * (any other value stops too). It may call the library, with other adaptations than the one that runs. It must return normally: no
 * exception, no longjmp.
 */
typedef nada_flow (*nada_progress_callback)(const nada_progress *progress, void *user_data);

/** What a call that may take long heeds. NULL in its place is for nothing special: no progress, no cancelling. */
struct nada_call {
    /** sizeof(nada_call) where the program was compiled. */
    size_t struct_size;
    /** Told after each step of calls that have steps: adapting and inverting. NULL (the default) for nobody. */
    nada_progress_callback on_progress;
    /** Passed to on_progress as it is. Default: NULL. */
    void *user_data;
    /**
     * Ends the call with NADA_CANCELLED once it is triggered; NULL (the default) for nothing. It is looked at with each piece of a file that is
     * read or written and of a tensor that is changed or hashed, and after each layer of a network.
     */
    const nada_cancel *cancel;
};

/**
 * Fills `call` with the defaults; struct_size is sizeof(nada_call). As all of them are 0, `nada_call call = {sizeof call}` does the same.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_call_init(nada_call *call, size_t struct_size);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_context Contexts
 * Where and with how many threads the library computes, and where it looks for model packs.
 * @{
 */

/** Options of nada_context_new(). */
struct nada_context_options {
    /** sizeof(nada_context_options) where the program was compiled. */
    size_t struct_size;
    /**
     * Where to compute: "cpu"; "cuda" or "cuda:N", the first or the Nth NVIDIA GPU from 0, in a library that was built for it; "auto", a GPU
     * where one can be used. What cannot be used is the CPU instead, with a line in the log. NULL (the default) is what the environment
     * variable NADA_DEVICE says, or "auto".
     */
    const char *device;
    /**
     * Folders that hold model packs, searched in order before those the library knows itself (NADA_MODELS, the installed and the built-in
     * ones). Borrowed for the call. Default: none.
     */
    const char *const *model_folders;
    size_t model_folder_count;
    /** Threads that one call uses. 0 (the default) is one for each processor. */
    uint32_t threads;
    /** Always 0. */
    uint32_t reserved;
    /**
     * Bytes of memory that one call may need beside what is loaded, by an estimate that is made before work begins: a call that needs more
     * fails with NADA_OUT_OF_MEMORY and says both numbers and what would fit. 0 (the default) for none of the program's own. What the machine
     * has left counts beside it: what the environment variable NADA_MEMORY_LIMIT says (bytes, or a number such as 512M or 6G), else its free
     * memory without swap, its control group and the process's own limits of address space and data, all on Linux; elsewhere nothing.
     */
    uint64_t memory_limit;
};

/**
 * Fills `options` with the defaults; struct_size is sizeof(nada_context_options).
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_context_options_init(nada_context_options *options, size_t struct_size);

/**
 * Makes a context and starts its threads. `options` may be NULL for the defaults. In a process that has a single thread so far it sets the
 * environment variable CANDLE_NUM_THREADS to 1, unless it is set: a second thread pool below would take turns with the library's.
 * Threads: any. Owner: the caller frees *context with nada_context_free(); what was opened through it keeps what it needs.
 * Fails: NADA_INVALID_ARGUMENT, NADA_UNSUPPORTED (device), NADA_OUT_OF_MEMORY (threads).
 */
nada_status nada_context_new(const nada_context_options *options, nada_context **context);

/** Threads that one call uses; 0 for NULL. Threads: any. */
uint32_t nada_context_threads(const nada_context *context);

/**
 * Frees a context; NULL is allowed. Its threads end with the last handle that was opened through it.
 * Threads: any, once no other thread uses it.
 */
void nada_context_free(nada_context *context);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_model_list The model packs that are found
 * @{
 */

/**
 * Lists the model packs in the context's folders and in those that the library knows itself, in the order of the search; packs that
 * cannot be read are left out, and so is a pack with the name of an earlier one.
 * Threads: any. Owner: the caller frees *list with nada_model_list_free(); it may outlive the context.
 * Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_model_list_new(const nada_context *context, nada_model_list **list);

/** Number of packs; 0 for NULL. Threads: any. */
size_t nada_model_list_count(const nada_model_list *list);

/**
 * The name of pack `index`, from 0; "" for an index out of range and for NULL.
 * Threads: any. Owner: the list; valid until it is freed.
 */
const char *nada_model_list_name(const nada_model_list *list, size_t index);

/**
 * The folder of pack `index`, which nada_model_open() takes; "" for an index out of range and for NULL.
 * Threads: any. Owner: the list; valid until it is freed.
 */
const char *nada_model_list_folder(const nada_model_list *list, size_t index);

/**
 * What pack `index` is, in words; "" for an index out of range, for NULL, and where the pack does not say.
 * Threads: any. Owner: the list; valid until it is freed.
 */
const char *nada_model_list_description(const nada_model_list *list, size_t index);

/**
 * What to tell the user about folders that NADA_MODELS or the context's options name and that lead nowhere, and about keys of a model.toml
 * that this version does not know, one sentence a line; "" where all is well, and for NULL.
 * Threads: any. Owner: the list; valid until it is freed.
 */
const char *nada_model_list_warning(const nada_model_list *list);

/** Frees a list; NULL is allowed. Threads: any, once no other thread uses it. */
void nada_model_list_free(nada_model_list *list);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_model Model packs
 * Folders that bring a generator, CLIPs, the words they know and a recipe.
 * @{
 */

/**
 * Opens a model pack: by its name in the context's folders and those that the library knows itself (NADA_MODELS, the installed and the
 * built-in ones), or by the path of its folder or of its model.toml. NULL is "starter", which comes with the library. UTF-8.
 * Threads: any. Owner: the caller frees *model with nada_model_free(); it may outlive the context.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT.
 */
nada_status nada_model_open(const nada_context *context, const char *name, nada_model **model);

/** The name of the pack; "" for NULL. Threads: any. Owner: the model; valid until it is freed. */
const char *nada_model_name(const nada_model *model);

/** The folder of the pack; "" for NULL. Threads: any. Owner: the model; valid until it is freed. */
const char *nada_model_folder(const nada_model *model);

/** What the pack is, in words; "" for NULL and where it does not say. Threads: any. Owner: the model; valid until it is freed. */
const char *nada_model_description(const nada_model *model);

/**
 * What to tell the user of the pack: keys of its model.toml and its list of words that this version does not know, one sentence a line; ""
 * where there are none, and for NULL.
 * Threads: any. Owner: the model; valid until it is freed.
 */
const char *nada_model_warning(const nada_model *model);

/**
 * The generator of the pack; read on the first call: where that one is cancelled, the next one reads it. `call` may be NULL.
 * Threads: any. Owner: the caller frees *generator with nada_generator_free(); it may outlive the model.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_CANCELLED.
 */
nada_status nada_model_generator(const nada_model *model, const nada_call *call, nada_generator **generator);

/**
 * Number of CLIPs of the pack, read on the first call: where that one is cancelled, the next one reads them. `call` may be NULL.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_CANCELLED.
 */
nada_status nada_model_clip_count(const nada_model *model, const nada_call *call, size_t *count);

/**
 * CLIP `index` of the pack, and the weight of its losses (`weight` may be NULL, and so may `call`).
 * Threads: any. Owner: the caller frees *clip with nada_clip_free(); it may outlive the model.
 * Fails: as nada_model_clip_count().
 */
nada_status nada_model_clip(
    const nada_model *model,
    size_t index,
    const nada_call *call,
    nada_clip **clip,
    float *weight);

/**
 * Says what is wrong with `text` before the CLIPs are read: which words the pack does not know, and which it does (words it never learned
 * change little), words of other languages than a CLIP's, characters that nobody sees, and too many words. Writes NUL-terminated
 * UTF-8 sentences to `warning`, which has room for `size` bytes ("" where all is well, cut at a character where it does not fit), and
 * the bytes that the whole takes to *needed (1 where all is well). `warning` may be NULL when `size` is 0, and `needed` may be NULL.
 * What the pack's CLIPs make of words is read on the first call; `call` may be NULL. An adaptation keeps the sentences too:
 * nada_adaptation_warning().
 * Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
 */
nada_status nada_model_check_text(
    const nada_model *model,
    const char *text,
    const nada_call *call,
    char *warning,
    size_t size,
    size_t *needed);

/**
 * Whether `text` fits into the pack's CLIPs inside the longest of its prompt templates, before CLIPs or generator are read. The message
 * says how many tokens it has, what the template adds, and how many are too many. `call` may be NULL.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT where it does not fit, NADA_CANCELLED.
 */
nada_status nada_model_check_length(const nada_model *model, const char *text, const nada_call *call);

/**
 * The target phrases that the pack's CLIPs know best, such as "a pencil sketch", one a line; "" where they know natural language. Source
 * phrases are not among them. `phrases` has room for `size` bytes; what does not fit is cut, and *needed gets the bytes that the whole
 * takes, as for nada_model_check_text().
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_model_phrases(const nada_model *model, char *phrases, size_t size, size_t *needed);

/** Frees a model; NULL is allowed. Generators and CLIPs that were taken from it stay. Threads: any, once no other thread uses it. */
void nada_model_free(nada_model *model);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_image Images
 * Pixels of the host, of files and of generators.
 * @{
 */

/** How a pixel is stored; 16-bit and float channels in the machine's byte order, alpha straight (not premultiplied). */
typedef int32_t nada_pixel_format;
enum {
    /** 3 bytes: R, G, B. */
    NADA_FORMAT_RGB8 = 0,
    /** 4 bytes: R, G, B, A. */
    NADA_FORMAT_RGBA8 = 1,
    /** 4 bytes: B, G, R, A. */
    NADA_FORMAT_BGRA8 = 2,
    /** 1 byte: grey. */
    NADA_FORMAT_GRAY8 = 3,
    /** 6 bytes: R, G, B. */
    NADA_FORMAT_RGB16 = 4,
    /** 8 bytes: R, G, B, A. */
    NADA_FORMAT_RGBA16 = 5,
    /** 16 bytes: R, G, B, A as floats, nominally in [0, 1]. */
    NADA_FORMAT_RGBA32F = 6,
};

/** How colour numbers relate to light. Alpha is linear in both. */
typedef int32_t nada_transfer;
enum {
    /** The sRGB curve (IEC 61966-2-1). */
    NADA_TRANSFER_SRGB = 0,
    /** Proportional to light, with sRGB's primaries. */
    NADA_TRANSFER_LINEAR = 1,
};

/** Pixels of the caller, to read from. This struct is complete: it will not grow. No alignment is asked of `data` or `stride`. */
struct nada_pixels {
    /** The top left pixel. */
    const void *data;
    /** Bytes from the start of one row to the start of the next, at least a row's pixels. */
    size_t stride;
    /** In pixels, at least 1. */
    uint32_t width;
    /** In pixels, at least 1. */
    uint32_t height;
    nada_pixel_format format;
    nada_transfer transfer;
};

/** Pixels of the caller, to write to; the same fields as nada_pixels. */
struct nada_pixels_mut {
    /** The top left pixel. */
    void *data;
    /** Bytes from the start of one row to the start of the next, at least a row's pixels. */
    size_t stride;
    /** In pixels, at least 1. */
    uint32_t width;
    /** In pixels, at least 1. */
    uint32_t height;
    nada_pixel_format format;
    nada_transfer transfer;
};

/**
 * Copies pixels of the caller into an image. Floats outside [0, 1] are clamped; without an alpha channel the image is opaque.
 * Threads: any. Owner: `pixels` is borrowed for the call; the caller frees *image with nada_image_free().
 * Fails: NADA_INVALID_ARGUMENT (an empty or huge size, a stride shorter than a row, an unknown format, a pixel that is not finite),
 * NADA_OUT_OF_MEMORY.
 */
nada_status nada_image_from_pixels(const nada_pixels *pixels, nada_image **image);

/**
 * Copies an image into pixels of the caller, which have the image's size; integers are rounded to the nearest. Formats without alpha
 * get the image over white; grey is its luma. Bytes between the rows are left alone.
 * Threads: any, while no other one uses the pixels. Owner: `pixels` is borrowed for the call.
 * Fails: NADA_INVALID_ARGUMENT; the pixels are then as they were.
 */
nada_status nada_image_to_pixels(const nada_image *image, const nada_pixels_mut *pixels);

/** In pixels; 0 for NULL. Threads: any. */
uint32_t nada_image_width(const nada_image *image);

/** In pixels; 0 for NULL. Threads: any. */
uint32_t nada_image_height(const nada_image *image);

/** Frees an image; NULL is allowed. Threads: any, once no other thread uses it. */
void nada_image_free(nada_image *image);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_image_file Image files
 * Pictures that are read and written.
 * @{
 */

/**
 * Reads a PNG, JPEG, WebP, TIFF, BMP or GIF file of any depth; the content decides, not the name. Of an animation the first picture is
 * read. The image is turned as the file says, and its numbers become sRGB by what the file says of them: an ICC profile, PNG's cICP, gAMA
 * and cHRM, or a camera's mark. What could not be honoured: nada_image_warning(). `file` is UTF-8; `call` may be
 * NULL: its token is looked at between rows, and not in the middle of a decoder that holds the whole picture.
 * Threads: any. Owner: the caller frees *image with nada_image_free().
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_CANCELLED, NADA_BAD_FORMAT (also a format that is not read, of which the
 * message says how to convert it, a file that is cut off, and more than 67108864 pixels: see nada_image_open_square()).
 */
nada_status nada_image_open(const char *file, const nada_call *call, nada_image **image);

/**
 * As nada_image_open(), of the `size` bytes of a file that the program has in memory; `name` is what messages call them, NULL for "picture".
 * Threads: any. Owner: `data` and `name` are borrowed for the call; the caller frees *image with nada_image_free().
 * Fails: as nada_image_open(), and NADA_OUT_OF_MEMORY.
 */
nada_status nada_image_open_memory(
    const void *data,
    size_t size,
    const char *name,
    const nada_call *call,
    nada_image **image);

/**
 * As nada_image_open(), but of the picture only its largest centred square, shrunk while it is read to at most `max_size` pixels a side
 * (nada_generator_size() is enough to invert it; 0: as many as the square has): photos of up to 268435456 pixels, without the whole as
 * floats in memory.
 * Threads: any. Owner: the caller frees *image with nada_image_free().
 * Fails: as nada_image_open().
 */
nada_status nada_image_open_square(const char *file, uint32_t max_size, const nada_call *call, nada_image **image);

/**
 * What the file of an image has that could not be honoured, in sentences for the user, one a line: a colour profile that cannot be used,
 * frames or pages that were left out, an end that is missing. "" where there is nothing to say, for images that are of no file, and for
 * NULL.
 * Threads: any. Owner: the image; valid until it is freed.
 */
const char *nada_image_warning(const nada_image *image);

/**
 * Writes an 8-bit PNG file (RGB where every pixel is opaque, else RGBA) under a temporary name and renames it: a failure, also a cancelled
 * call, leaves what was there. `file` is UTF-8; `call` may be NULL.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_IO, NADA_NOT_FOUND (its folder), NADA_CANCELLED.
 */
nada_status nada_image_save_png(const nada_image *image, const char *file, const nada_call *call);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_latent Latents
 * Points of a generator's latent spaces.
 * @{
 */

/** A latent space of a generator. */
typedef int32_t nada_space;
enum {
    /** Input noise, [count, dimension]. */
    NADA_SPACE_Z = 0,
    /** Its image under the mapping network, [count, dimension]. */
    NADA_SPACE_W = 1,
    /** One w for each synthesis layer, [count, rows, dimension]. */
    NADA_SPACE_W_PLUS = 2,
};

/**
 * Opens latents: a safetensors file with the key z, w or w_plus, whichever `space` says, a numpy .npy file that holds them, or what other
 * tools write: encoders a .pt with one tensor, NVIDIA's projector an .npz, rosinality's a .pt with its noise maps. `file` is UTF-8;
 * `call` may be NULL.
 * Threads: any. Owner: the caller frees *latent with nada_latent_free(); it may outlive the context.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_CANCELLED.
 */
nada_status nada_latent_open(
    const nada_context *context,
    const char *file,
    nada_space space,
    const nada_call *call,
    nada_latent **latent);

/**
 * As nada_latent_open(), of the `size` bytes of a file that the program has in memory; `name` is what messages call them, NULL for "latent".
 * Threads: any. Owner: `data` and `name` are borrowed for the call; the caller frees *latent with nada_latent_free().
 * Fails: as nada_latent_open(), and NADA_OUT_OF_MEMORY.
 */
nada_status nada_latent_open_memory(
    const nada_context *context,
    const void *data,
    size_t size,
    const char *name,
    nada_space space,
    const nada_call *call,
    nada_latent **latent);

/**
 * Makes latents from numbers of the caller: count * rows * dimension floats, row-major. `rows` is 1 for NADA_SPACE_Z and NADA_SPACE_W and
 * nada_generator_rows() for NADA_SPACE_W_PLUS; `dimension` is nada_generator_dimension().
 * Threads: any. Owner: `data` is borrowed for the call; the caller frees *latent with nada_latent_free().
 * Fails: NADA_INVALID_ARGUMENT (a size of 0, a number that is not finite), NADA_OUT_OF_MEMORY.
 */
nada_status nada_latent_from_data(
    const nada_context *context,
    nada_space space,
    const float *data,
    size_t count,
    size_t rows,
    size_t dimension,
    nada_latent **latent);

/**
 * Writes latents under a temporary name and renames it: as numpy where `file` ends in .npy (without noise maps), else as safetensors.
 * A failure, also a cancelled call, leaves what was there. `file` is UTF-8; `call` may be NULL.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_IO, NADA_NOT_FOUND (its folder), NADA_CANCELLED.
 */
nada_status nada_latent_save(const nada_latent *latent, const char *file, const nada_call *call);

/** The space, a nada_space. Threads: any. Fails: NADA_INVALID_ARGUMENT. */
nada_status nada_latent_space(const nada_latent *latent, nada_space *space);

/** Number of points; 0 for NULL. Threads: any. */
size_t nada_latent_count(const nada_latent *latent);

/** Rows of a point: 1 in Z and W; 0 for NULL. Threads: any. */
size_t nada_latent_rows(const nada_latent *latent);

/** Numbers in a row; 0 for NULL. Threads: any. */
size_t nada_latent_dimension(const nada_latent *latent);

/**
 * Copies the numbers, count * rows * dimension floats, row-major, to `data`, which has room for `length` floats.
 * Threads: any. Owner: `data` is borrowed for the call. Fails: NADA_INVALID_ARGUMENT (too small; nothing is written).
 */
nada_status nada_latent_copy_data(const nada_latent *latent, float *data, size_t length);

/** Frees a latent; NULL is allowed. Threads: any, once no other thread uses it. */
void nada_latent_free(nada_latent *latent);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_generator Generators
 * What draws pictures of latents; their layers, sampling, mixing, saving.
 * @{
 */

/** What a layer of a generator does. */
typedef int32_t nada_layer_kind;
enum {
    /** What the first convolution starts from: the learned constant of StyleGAN2. */
    NADA_LAYER_INPUT = 0,
    /** A modulated convolution with what follows it. */
    NADA_LAYER_CONVOLUTION = 1,
    /** From features to colours. */
    NADA_LAYER_TO_RGB = 2,
};

/** A layer of a generator's synthesis network. */
struct nada_layer {
    /** As passed to nada_generator_layer(). */
    size_t struct_size;
    /** Its tensors' keys begin with it and a dot. The generator's; valid until that is freed. */
    const char *name;
    nada_layer_kind kind;
    /** From 0 among the layers of its kind, in the order of drawing. */
    uint32_t index;
    /** The row of W+ that its style is made of; -1 where it has no style. */
    int32_t row;
    /** Of what comes out, in pixels. */
    uint32_t width;
    uint32_t height;
    /** Channels that go in, which are the numbers of its style; 0 for an input. */
    uint32_t channels_in;
    /** Channels that come out. */
    uint32_t channels_out;
    /** Side of the convolution's kernel, in pixels; 0 for an input. */
    uint32_t kernel;
};

/** A file format of generators. */
typedef int32_t nada_layout;
enum {
    /** safetensors, this library's own. */
    NADA_LAYOUT_NADA = 0,
    /** A .pt for rosinality's stylegan2-pytorch and what builds on it (StyleGAN-NADA, pSp, e4e). It has no place for classes. */
    NADA_LAYOUT_ROSINALITY = 1,
    /** A .pkl for NVIDIA's stylegan2-ada-pytorch. */
    NADA_LAYOUT_ADA_PYTORCH = 2,
};

/**
 * Opens a StyleGAN2 generator from any supported file: rosinality's or BasicSR's layout as safetensors or torch file, or NVIDIA's pickle.
 * `file` is UTF-8; `call` may be NULL.
 * Threads: any. Owner: the caller frees *generator with nada_generator_free(); it may outlive the context.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED, NADA_CANCELLED.
 */
nada_status nada_generator_open(
    const nada_context *context,
    const char *file,
    const nada_call *call,
    nada_generator **generator);

/**
 * As nada_generator_open(), of the `size` bytes of a file that the program has in memory; `name` is what messages call them, NULL for
 * "generator".
 * Threads: any. Owner: `data` and `name` are borrowed for the call, `data` is copied; the caller frees *generator with
 * nada_generator_free(). Fails: as nada_generator_open(), and NADA_OUT_OF_MEMORY.
 */
nada_status nada_generator_open_memory(
    const nada_context *context,
    const void *data,
    size_t size,
    const char *name,
    const nada_call *call,
    nada_generator **generator);

/** The longer side of its pictures in pixels: most generators draw squares; 0 for NULL. Threads: any. */
uint32_t nada_generator_size(const nada_generator *generator);

/** Width of its pictures in pixels; 0 for NULL. Threads: any. */
uint32_t nada_generator_width(const nada_generator *generator);

/** Height of its pictures in pixels; 0 for NULL. Threads: any. */
uint32_t nada_generator_height(const nada_generator *generator);

/**
 * What its pictures are made of: 1 for grey, 3 for RGB, 4 for RGB and alpha; 0 for NULL. Images of any have all four channels.
 * Threads: any.
 */
uint32_t nada_generator_channels(const nada_generator *generator);

/** Rows of a point of W+, for square pictures 2 * log2(size) - 2; 0 for NULL. Threads: any. */
size_t nada_generator_rows(const nada_generator *generator);

/** Numbers in a w and in a row of W+; 0 for NULL. Threads: any. */
size_t nada_generator_dimension(const nada_generator *generator);

/** Numbers in a z, for most generators as many as in a w; 0 for NULL. Threads: any. */
size_t nada_generator_z_dimension(const nada_generator *generator);

/** Number of layers of its synthesis network, in the order of drawing; 0 for NULL. Threads: any. */
size_t nada_generator_layer_count(const nada_generator *generator);

/**
 * Layer `index`, from 0; struct_size is sizeof(nada_layer). Phases and selection of adaptations, and the changes in domains, speak of these.
 * Threads: any. Owner: the name is the generator's. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_generator_layer(const nada_generator *generator, size_t index, nada_layer *layer, size_t struct_size);

/** Number of classes of a conditional generator; 0 for others and for NULL. Threads: any. */
uint32_t nada_generator_classes(const nada_generator *generator);

/**
 * Makes the generator of one class of a conditional generator, from 0 to nada_generator_classes() - 1. Without a class such a generator draws
 * points of W and W+ alone: what maps a z (sampling, adapting, inverting) fails. Weights are shared, and domains of one class serve all.
 * Threads: any. Owner: the caller frees *of_class with nada_generator_free().
 * Fails: NADA_INVALID_ARGUMENT (a class that it does not have).
 */
nada_status nada_generator_with_class(const nada_generator *generator, uint32_t class_index, nada_generator **of_class);

/**
 * Makes a generator without classes of one that has a class (nada_generator_with_class()), for formats and programs that know none: it draws
 * as that class. One without classes is copied; weights are shared. `call` may be NULL.
 * Threads: any. Owner: the caller frees *plain with nada_generator_free().
 * Fails: NADA_INVALID_ARGUMENT (classes, and none was chosen), NADA_CANCELLED.
 */
nada_status nada_generator_without_classes(
    const nada_generator *generator,
    const nada_call *call,
    nada_generator **plain);

/**
 * Writes a generator in a format, a nada_layout, under a temporary name and renames it: a failure, also a cancelled call, leaves what was
 * there. Numbers stay as they are, bit by bit; to build domains in, save what nada_generator_with_domains() makes. `half` is 1 for f16
 * numbers (NADA_LAYOUT_NADA alone): half the size, and another generator: domains of the f32 one do not fit. `file` is UTF-8; `call` may be
 * NULL.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_UNSUPPORTED (what the format has no place for), NADA_IO, NADA_NOT_FOUND (its folder),
 * NADA_CANCELLED.
 */
nada_status nada_generator_save(
    const nada_generator *generator,
    const char *file,
    nada_layout layout,
    uint32_t half,
    const nada_call *call);

/**
 * The SHA-256 (hexadecimal) of the weights: domains know their generator by it. It is found on the first call, which takes a while for
 * large generators; where that one is cancelled, the next one finds it. `call` may be NULL.
 * Threads: any. Owner: the generator; *fingerprint is valid until it is freed. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
 */
nada_status nada_generator_fingerprint(
    const nada_generator *generator,
    const nada_call *call,
    const char **fingerprint);

/**
 * Draws `count` random points of W from a seed, whose random numbers are the same on every machine. `truncation` in [0, 1.5] draws them
 * towards the mean; 0.7 is usual, 1 leaves them. `call` may be NULL.
 * Threads: any. Owner: the caller frees *latent with nada_latent_free().
 * Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED, NADA_OUT_OF_MEMORY.
 */
nada_status nada_generator_sample(
    const nada_generator *generator,
    size_t count,
    uint64_t seed,
    float truncation,
    const nada_call *call,
    nada_latent **latent);

/**
 * Mixes styles: the first `crossover` rows of each point of `a` (coarse traits), the rest of `b` (fine ones). `crossover` is at most
 * nada_generator_rows(). The result is in W+, without noise maps. `call` may be NULL.
 * Threads: any. Owner: the caller frees *latent with nada_latent_free().
 * Fails: NADA_INVALID_ARGUMENT (also latents of another shape or of different counts), NADA_CANCELLED.
 */
nada_status nada_generator_mix_styles(
    const nada_generator *generator,
    const nada_latent *a,
    const nada_latent *b,
    size_t crossover,
    const nada_call *call,
    nada_latent **latent);

/**
 * Mixes linearly: (1 - amount) * a + amount * b, point by point, `amount` in [0, 1]. The result is in W+, without noise maps. `call` may be
 * NULL.
 * Threads: any. Owner: the caller frees *latent with nada_latent_free().
 * Fails: NADA_INVALID_ARGUMENT (also latents of another shape or of different counts), NADA_CANCELLED.
 */
nada_status nada_generator_mix_linear(
    const nada_generator *generator,
    const nada_latent *a,
    const nada_latent *b,
    float amount,
    const nada_call *call,
    nada_latent **latent);

/** Frees a generator; NULL is allowed. Adaptations made with it keep what they need. Threads: any, once no other thread uses it. */
void nada_generator_free(nada_generator *generator);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_render Rendering
 * Pictures of latents, with domains added to their generator.
 * @{
 */

/** The noise of the synthesis layers. */
typedef int32_t nada_noise;
enum {
    /** The maps that came with the generator. */
    NADA_NOISE_CONST = 0,
    /** None. */
    NADA_NOISE_NONE = 1,
    /** Drawn anew from a seed. */
    NADA_NOISE_RANDOM = 2,
};

/** Options of the functions that render and restyle. */
struct nada_render_options {
    /** sizeof(nada_render_options) where the program was compiled. */
    size_t struct_size;
    /** Domains to add to the generator, all made from it. Borrowed for the call. Default: none. */
    const nada_domain *const *domains;
    /** The strength of each domain, in [0, 1.5]; NULL (the default) for 1 each. */
    const float *strengths;
    size_t domain_count;
    /** The seed of NADA_NOISE_RANDOM. Default: 0. */
    uint64_t noise_seed;
    /** Draws latents towards the mean: 1 (the default) leaves them, 0 gives the mean; at most 1.5. */
    float truncation;
    /** For latents that bring no noise maps of their own. Default: NADA_NOISE_CONST. */
    nada_noise noise;
};

/**
 * Fills `options` with the defaults; struct_size is sizeof(nada_render_options).
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_render_options_init(nada_render_options *options, size_t struct_size);

/**
 * Makes a generator with domains added, for rendering many times: weights + sum of strength * change. Unchanged weights are shared.
 * `strengths` may be NULL for 1 each, and so may `call`.
 * Threads: any. Owner: arrays are borrowed for the call; the caller frees *adapted with nada_generator_free().
 * Fails: NADA_INVALID_ARGUMENT (a strength outside [0, 1.5]), NADA_MISMATCH (a domain of another generator), NADA_CANCELLED.
 */
nada_status nada_generator_with_domains(
    const nada_generator *generator,
    const nada_domain *const *domains,
    const float *strengths,
    size_t domain_count,
    const nada_call *call,
    nada_generator **adapted);

/**
 * Renders every point of a latent: `images` has room for `image_count` handles, which must be nada_latent_count(). `options` and
 * `call` may be NULL. Pictures have nada_generator_width() times nada_generator_height() pixels and are opaque, unless the generator
 * draws alpha.
 * Threads: any; the same generator, latent and domains may be rendered by several threads at once.
 * Owner: the caller frees each image with nada_image_free(); on failure all are NULL.
 * Fails: NADA_INVALID_ARGUMENT, NADA_MISMATCH (a domain of another generator), NADA_CANCELLED, NADA_OUT_OF_MEMORY,
 * NADA_NOT_FINITE.
 */
nada_status nada_generator_render(
    const nada_generator *generator,
    const nada_latent *latent,
    const nada_render_options *options,
    const nada_call *call,
    nada_image **images,
    size_t image_count);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_clip CLIPs
 * What compares pictures with words; embeddings and scores.
 * @{
 */

/** The function between the two layers of a CLIP's MLPs. */
typedef int32_t nada_activation;
enum {
    /** What a configuration beside the file says, else QuickGELU. */
    NADA_ACTIVATION_OF_FILE = 0,
    /** x * sigmoid(1.702 x), OpenAI's. */
    NADA_ACTIVATION_QUICK_GELU = 1,
    /** x * Phi(x), of most that open_clip trained. */
    NADA_ACTIVATION_GELU = 2,
    /** GELU with tanh. */
    NADA_ACTIVATION_GELU_TANH = 3,
};

/** How pictures are shrunk to a CLIP's resolution. */
typedef int32_t nada_clip_resize;
enum {
    /** Bicubic with a low-pass, what torchvision does today. */
    NADA_CLIP_RESIZE_ANTIALIAS = 0,
    /** Bicubic without, what it did in 2021. */
    NADA_CLIP_RESIZE_ALIASED = 1,
    /** The mean over areas. */
    NADA_CLIP_RESIZE_AREA = 2,
};

/**
 * Opens a CLIP: a Hugging Face folder (config.json, model.safetensors, and its tokenizer where it has one), or a file: OpenAI's
 * TorchScript archive, or its tensors as safetensors or as a torch zip file. What reads texts is read from there when texts are first
 * embedded. `file` is UTF-8; `call` may be NULL.
 * Threads: any. Owner: the caller frees *clip with nada_clip_free(); it may outlive the context.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED, NADA_CANCELLED.
 */
nada_status nada_clip_open(const nada_context *context, const char *file, const nada_call *call, nada_clip **clip);

/**
 * As nada_clip_open(), of a file whose activation is known: a file in OpenAI's layout does not tell it, and where nothing beside it does,
 * QuickGELU is taken with a warning (nada_clip_warning()). Fails with NADA_INVALID_ARGUMENT where a configuration beside it says another.
 * Threads: any. Owner: the caller frees *clip with nada_clip_free(); it may outlive the context.
 * Fails: as nada_clip_open().
 */
nada_status nada_clip_open_as(
    const nada_context *context,
    const char *file,
    nada_activation activation,
    const nada_call *call,
    nada_clip **clip);

/**
 * As nada_clip_open_as(), of the `size` bytes of a file that the program has in memory, which has nothing beside it: OpenAI's archives bring
 * all there is. `name` is what messages and domains call it, NULL for "clip".
 * Threads: any. Owner: `data` and `name` are borrowed for the call, `data` is copied; the caller frees *clip with nada_clip_free().
 * Fails: as nada_clip_open(), and NADA_OUT_OF_MEMORY.
 */
nada_status nada_clip_open_memory(
    const nada_context *context,
    const void *data,
    size_t size,
    const char *name,
    nada_activation activation,
    const nada_call *call,
    nada_clip **clip);

/**
 * What to tell a user who takes this CLIP, in sentences: what was taken for granted because no file says it, and fields of its
 * configuration that are not known; "" where there is nothing, and for NULL.
 * Threads: any. Owner: the CLIP; valid until it is freed.
 */
const char *nada_clip_warning(const nada_clip *clip);

/**
 * The name that domains made with this CLIP carry: its file's or folder's; "" for NULL.
 * Threads: any. Owner: the CLIP; valid until it is freed.
 */
const char *nada_clip_name(const nada_clip *clip);

/** The side of the pictures it looks at, in pixels (others are resized); 0 for NULL. Threads: any. */
uint32_t nada_clip_resolution(const nada_clip *clip);

/** The length of its embeddings; 0 for NULL. Threads: any. */
uint32_t nada_clip_dimension(const nada_clip *clip);

/**
 * The embeddings of `text_count` texts, each normalised: text_count * nada_clip_dimension() floats, which is `length`, row-major. A text is put
 * into each of the templates, which have one {} each, and the mean is taken; without templates it stands as it is. `templates` and `call`
 * may be NULL.
 * Threads: any. Owner: all is borrowed for the call.
 * Fails: NADA_INVALID_ARGUMENT (also a text that is too long), NADA_UNSUPPORTED (a CLIP that reads no texts), NADA_CANCELLED; where weights
 * are read from the CLIP's file, as nada_clip_open(), and NADA_BAD_FORMAT where it has changed since.
 */
nada_status nada_clip_embed_texts(
    const nada_clip *clip,
    const char *const *words,
    size_t text_count,
    const char *const *templates,
    size_t template_count,
    const nada_call *call,
    float *embeddings,
    size_t length);

/**
 * The embeddings of `image_count` pictures, each normalised: image_count * nada_clip_dimension() floats, which is `length`, row-major. `resize`
 * is how they are shrunk, a nada_clip_resize; what is transparent is white. `call` may be NULL.
 * Threads: any. Owner: all is borrowed for the call. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
 */
nada_status nada_clip_embed_images(
    const nada_clip *clip,
    const nada_image *const *images,
    size_t image_count,
    nada_clip_resize resize,
    const nada_call *call,
    float *embeddings,
    size_t length);

/**
 * How well pictures match texts: the cosines of their embeddings, image_count * text_count floats, which is `length`: a row for each picture, a
 * column for each text. The rest as for nada_clip_embed_texts(); pictures are shrunk with a low-pass (NADA_CLIP_RESIZE_ANTIALIAS).
 * Threads: any. Owner: all is borrowed for the call. Fails: as nada_clip_embed_texts().
 */
nada_status nada_clip_score(
    const nada_clip *clip,
    const nada_image *const *images,
    size_t image_count,
    const char *const *words,
    size_t text_count,
    const char *const *templates,
    size_t template_count,
    const nada_call *call,
    float *cosines,
    size_t length);

/** Frees a CLIP; NULL is allowed. Adaptations made with it keep what they need. Threads: any, once no other thread uses it. */
void nada_clip_free(nada_clip *clip);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_encoder Encoders
 * Networks from a picture to a latent, which take a second where a search takes minutes.
 * @{
 */

/**
 * Opens an encoder: the file of pSp's, e4e's or ReStyle's trainer (.pt), or its tensors and settings as safetensors. `file` is UTF-8; `call`
 * may be NULL. It goes into nada_inversion_options.encoder.
 * Threads: any. Owner: the caller frees *encoder with nada_encoder_free(); it may outlive the context.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED, NADA_CANCELLED.
 */
nada_status nada_encoder_open(
    const nada_context *context,
    const char *file,
    const nada_call *call,
    nada_encoder **encoder);

/**
 * The encoder of a pack, read on each call; *encoder is NULL where the pack has none. `call` may be NULL.
 * Threads: any. Owner: the caller frees *encoder with nada_encoder_free(); it may outlive the model.
 * Fails: as nada_encoder_open().
 */
nada_status nada_model_encoder(const nada_model *model, const nada_call *call, nada_encoder **encoder);

/** Frees an encoder; NULL is allowed. Threads: any, once no other thread uses it. */
void nada_encoder_free(nada_encoder *encoder);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_inversion Inversion
 * The latent of a picture, and restyling in one call.
 * @{
 */

/** How a latent is found. */
typedef int32_t nada_method;
enum {
    /** By options.encoder where there is one, else by optimisation. */
    NADA_METHOD_AUTO = 0,
    /** By the encoder alone: a second, and somewhat less like the picture. */
    NADA_METHOD_ENCODE = 1,
    /** By optimisation from the mean latent. */
    NADA_METHOD_OPTIMISE = 2,
    /** By optimisation from what the encoder gives. */
    NADA_METHOD_BOTH = 3,
};

/** Options of nada_generator_invert(), nada_generator_restyle() and nada_generator_restyle_frame(). */
struct nada_inversion_options {
    /** sizeof(nada_inversion_options) where the program was compiled. */
    size_t struct_size;
    /** For the loss `clip_weight`; NULL (the default) without one. Borrowed for the call. */
    const nada_clip *clip;
    /** Adam's learning rate. */
    double learning_rate;
    /** Of the noise that is added while searching. */
    uint64_t seed;
    /** Where to search: NADA_SPACE_W (edits well) or NADA_SPACE_W_PLUS (comes closer). */
    nada_space space;
    /** Steps at the most. */
    uint32_t steps;
    /** Weight of the loss on the picture's 2 to 16-fold averages, beside that of its pixels. */
    float pyramid_weight;
    /** Weight of 1 - cosine of the CLIP embeddings; above 0 needs `clip`. */
    float clip_weight;
    /** 1 to optimise the noise maps too, regularised; they stay with the latent. */
    uint32_t optimise_noise;
    /** Weight of the noise regulariser. */
    float noise_regularisation;
    /** Stops once the picture is this good, in dB; 0 for never. */
    float enough_psnr;
    /** Always 0. */
    uint32_t reserved;
    /** For the methods that take one; NULL (the default) without one. Borrowed for the call. */
    const nada_encoder *encoder;
    /** How the latent is found: a nada_method. */
    nada_method method;
    /** Passes of a ReStyle encoder; others have one. */
    uint32_t rounds;
};

/**
 * Fills `options` with the defaults; struct_size is sizeof(nada_inversion_options).
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_inversion_options_init(nada_inversion_options *options, size_t struct_size);

/**
 * Fills `options` with the pack's settings of inversion; struct_size is sizeof(nada_inversion_options).
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_model_inversion_options(const nada_model *model, nada_inversion_options *options, size_t struct_size);

/**
 * As nada_adaptation_options_set(): "steps", "clip_weight", "space".
 * Threads: any, one at a time for each struct. Fails, and leaves the struct as it was: NADA_INVALID_ARGUMENT.
 */
nada_status nada_inversion_options_set(nada_inversion_options *options, const char *name, const char *value);

/**
 * Finds the latent whose picture is `image` (any size: its largest centred square is resized): by optimisation from the mean latent, or as
 * options.method says. `options` and `call` may be NULL. *latent is one point of W+; *psnr (may be NULL) is how close it comes, in dB,
 * drawn with the noise maps that were found, or without noise (NADA_NOISE_NONE) where options.optimise_noise is 0. Progress of an encoder
 * counts its rounds.
 * Threads: any. Owner: the caller frees *latent with nada_latent_free().
 * Fails: NADA_INVALID_ARGUMENT (also a picture of which all pixels of the square are transparent, and a method that takes an encoder
 * without one), NADA_MISMATCH where the encoder's rows are not the generator's, NADA_CANCELLED, NADA_NOT_FINITE, NADA_OUT_OF_MEMORY.
 */
nada_status nada_generator_invert(
    const nada_generator *generator,
    const nada_image *image,
    const nada_inversion_options *options,
    const nada_call *call,
    nada_latent **latent,
    float *psnr);

/**
 * Restyles a picture in one call: inverts it, then renders what was found with the domains of `render`. `inversion`, `render`
 * and `call` may be NULL; a NULL `render` draws without noise, as the search does (or with the maps that it found). The
 * result has nada_generator_size() pixels a side, and is as transparent as the square of the image.
 * Threads: any. Owner: the caller frees *restyled with nada_image_free().
 * Fails: as nada_generator_invert() and nada_generator_render().
 */
nada_status nada_generator_restyle(
    const nada_generator *generator,
    const nada_image *image,
    const nada_inversion_options *inversion,
    const nada_render_options *render,
    const nada_call *call,
    nada_image **restyled);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_adaptation_options Options of adaptations
 * What is trained, how, and what judges it.
 * @{
 */

/** What an adaptation's memory is spent on. */
typedef int32_t nada_memory;
enum {
    /** A whole batch goes through the networks together. */
    NADA_MEMORY_FAST = 0,
    /** Pictures go through them one at a time and are drawn anew for their way back: less memory, and slower. */
    NADA_MEMORY_LOW = 1,
};

/** Which rules an adaptation follows. */
typedef int32_t nada_mode;
enum {
    /** The twins share noise and mixing, layers are numbered exactly, and the loss has a floor under the edit's length. */
    NADA_MODE_DEFAULT = 0,
    /** The code published with StyleGAN-NADA, number by number. */
    NADA_MODE_REFERENCE = 1,
};

/** What is trained, and what a domain stores. */
typedef int32_t nada_parameters;
enum {
    /** The weights themselves: domains as large as the generator. */
    NADA_PARAMETERS_FULL = 0,
    /** An offset for each style channel: domains of kilobytes. */
    NADA_PARAMETERS_STYLESPACE = 1,
};

/** Which convolutions are trained. */
typedef int32_t nada_phase;
enum {
    /** Every one. */
    NADA_PHASE_CONVOLUTIONS = 0,
    /** Convolutions 2 to 9 (from 0) after the one at the lowest resolution. */
    NADA_PHASE_TEXTURE = 1,
    /** Convolutions 0 and 1 after the one at the lowest resolution. */
    NADA_PHASE_SHAPE = 2,
    /** Convolutions 0 to 2 after the one at the lowest resolution. */
    NADA_PHASE_SHAPE_EXPANDED = 3,
    /** Convolutions 0 to 9 after the one at the lowest resolution. */
    NADA_PHASE_NO_FINE = 4,
    /** Every one, and the mapping network and ToRGB. */
    NADA_PHASE_ALL = 5,
};

/**
 * What an adaptation is to do. Filled by nada_adaptation_options_init() with settings for full-size generators, or by
 * nada_model_adaptation_options() with a pack's recipe. Everything pointed to is borrowed until the call that takes the options returns.
 */
struct nada_adaptation_options {
    /** sizeof(nada_adaptation_options) where the program was compiled. */
    size_t struct_size;
    /** The pack that gives the CLIPs and templates where those below are none, and that knows which words mean something; may be NULL. */
    const nada_model *model;
    /** What pictures of the generator are, in words; or else pictures of it in source_images. Default: "a photo". */
    const char *source_text;
    const nada_image *const *source_images;
    size_t source_image_count;
    /** What they are to become, in words; or else pictures of it in target_images. Default: none, one of the two must be set. */
    const char *target_text;
    const nada_image *const *target_images;
    size_t target_image_count;
    /** What judges. Default: none, the model's. */
    const nada_clip *const *clips;
    /** The weight of each CLIP's losses; NULL (the default) for equal ones that sum to 1. */
    const float *clip_weights;
    size_t clip_count;
    /** Sentences with one {} each that a text is put into. Default: none, the model's or else the 79 published ones. */
    const char *const *templates;
    size_t template_count;
    /** Adam's learning rate. */
    double learning_rate;
    /** Adam's second beta, in [0, 1). */
    double beta2;
    /** Of everything that is drawn at random; the same seed gives the same domain on the same kind of device. */
    uint64_t seed;
    nada_mode mode;
    nada_parameters parameters;
    nada_phase phase;
    /** 1 to train ToRGB too: colours need it, on small generators most of all. */
    uint32_t train_to_rgb;
    /** Adaptive layer selection: layers trained in each step. 0 for no selection. */
    uint32_t auto_layers_k;
    /** Adaptive layer selection: steps that score the layers, 1 to 1000. */
    uint32_t auto_layers_iterations;
    /** Adaptive layer selection: latents that are scored, 1 to 256. */
    uint32_t auto_layers_batch;
    /** Steps at the most. */
    uint32_t steps;
    /** Pictures a step, 1 to 256. */
    uint32_t batch;
    /** Weight of the directional loss: the edit goes the way that the words go. */
    float losses_direction;
    /** Weight of the global loss: pictures are what the target says. */
    float losses_global;
    /** Weight of the manifold loss: pictures move as far as the words. */
    float losses_manifold;
    /** Weight of the in-domain loss: pictures stay as different from one another as they were. */
    float losses_in_domain;
    /** Weight of the structure loss: small grey pictures stay alike. */
    float losses_structure;
    /** The cosine of small grey pictures, in [-1, 1], above which the structure loss is 0. */
    float structure_floor;
    /** The least length of the edit in the directional loss's denominator (NADA_MODE_DEFAULT). */
    float floor;
    /** The mean cosine between edit and direction, in (0, 1], at which the directional loss stops pushing; 1 for never. */
    float enough;
    /** 1 to let the learning rate fall linearly, to nothing after the last step. */
    uint32_t decay;
    /** Probability of style mixing in a batch. */
    float mixing;
    /** Truncation of the training latents, in [0, 1.5]; 1 is none. */
    float truncation;
    /** 1 for random flips, turns, scales, shifts and brightness before CLIP, the same for both twins. */
    uint32_t augment;
    nada_clip_resize clip_resize;
    /** 1 for random noise in the synthesis layers, 0 for generators trained without. */
    uint32_t noise;
    /** A snapshot every so many steps; 0 for none. */
    uint32_t snapshot_every;
    /** Stop rule: latents that it judges on, at least 2. 0 for no stop rule. */
    uint32_t stop_latents;
    /** Stop rule: steps between judgements. */
    uint32_t stop_every;
    /** Stop rule: the least share, in [0, 1], of adapted pictures whose nearest unadapted one is their own. */
    float stop_pairing;
    /** Stop rule: the least mean cosine, in [0, 1], of small grey pictures with the unadapted ones. */
    float stop_structure;
    /** Stop rule: judgements below those shares, one after the other, that end the run. */
    uint32_t stop_patience;
    /** Stop rule: the step from which a plateau ends the run. */
    uint32_t stop_earliest;
    /** Stop rule: a gain in cosine to the target over stop_plateau_steps that is less than this is a plateau. */
    float stop_plateau;
    uint32_t stop_plateau_steps;
    /**
     * Latents whose unadapted pictures are drawn once and used again (NADA_MODE_DEFAULT), at least a batch of them, at most 4096. 0 for new ones
     * in every step.
     */
    uint32_t pool;
    /** The longer side, in pixels, of the generator's picture that is trained through: layers above stay as they are. 0 for the whole. */
    uint32_t train_resolution;
    nada_memory memory;
    /** Always 0. */
    uint32_t reserved;
};

/**
 * Fills `options` with settings for full-size generators; struct_size is sizeof(nada_adaptation_options).
 * nada_model_adaptation_options() fills it with a pack's recipe instead.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_adaptation_options_init(nada_adaptation_options *options, size_t struct_size);

/**
 * Fills `options` with the pack's recipe and sets its field `model`, so that the pack's CLIPs, prompt templates and words are used;
 * struct_size is sizeof(nada_adaptation_options). What is left to set is target_text.
 * Threads: any. Owner: `options` borrows the model. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_model_adaptation_options(
    const nada_model *model,
    nada_adaptation_options *options,
    size_t struct_size);

/**
 * Sets one setting by its name, with a dot where the field has the first underscore of a group: "steps", "losses.structure",
 * "stop.pairing"; "stop" and "auto_layers" take "none", "stop" also "default". `value` is text: "400", "true", "texture". docs/settings.md lists all
 * with their ranges. Both are UTF-8.
 * Threads: any, one at a time for each struct. Fails, and leaves the struct as it was: NADA_INVALID_ARGUMENT (no such setting, with the
 * names like it; a value out of its range).
 */
nada_status nada_adaptation_options_set(nada_adaptation_options *options, const char *name, const char *value);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_adaptation Adaptation
 * A generator that learns words or pictures, in one call or step by step.
 * @{
 */

/** A state of an adaptation that can become a domain. */
struct nada_snapshot {
    /** As passed to nada_adaptation_snapshot_info(). */
    size_t struct_size;
    /** Steps done. */
    uint32_t step;
    /** The loss of that step. */
    float loss;
    /** 1 where the stop rule judged it, which gives the next three numbers; else 0, and they are 0. */
    uint32_t judged;
    /** Gain in the mean cosine between pictures and target, on latents of the run's own. */
    float gain;
    /** Share of adapted pictures whose nearest unadapted one is their own. */
    float pairing;
    /** Mean cosine of small grey adapted pictures with the unadapted ones. */
    float structure;
};

/** How a run ended. */
typedef int32_t nada_ended;
enum {
    /** It did not yet: it was cancelled, goes on by steps, or never ran. */
    NADA_ENDED_NOT = 0,
    /** All steps were done. */
    NADA_ENDED_STEPS = 1,
    /** The stop rule ended it. */
    NADA_ENDED_RULE = 2,
};

/** How far an adaptation is. */
struct nada_outcome {
    /** As passed to nada_adaptation_outcome(). */
    size_t struct_size;
    nada_ended ended;
    /** Steps done. */
    uint32_t steps;
    /** The step that nada_adaptation_result() is of. */
    uint32_t chosen;
    /** Always 0. */
    uint32_t reserved;
};

/**
 * Adapts a generator in one call: trains until the steps are done or the stop rule ends it, and gives the domain that the rule chose or
 * that was reached. `call` may be NULL. A cancelled call gives no domain; use an adaptation to keep what was
 * reached.
 * Threads: any. Owner: the caller frees *domain with nada_domain_free().
 * Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED, NADA_NOT_FINITE, NADA_OUT_OF_MEMORY, and what opening the model's CLIPs fails with.
 */
nada_status nada_generator_adapt(
    const nada_generator *generator,
    const nada_adaptation_options *options,
    const nada_call *call,
    nada_domain **domain);

/**
 * Makes an adaptation; nothing is trained yet. `call` may be NULL.
 * Threads: any. Owner: `options` and all it points to are borrowed for the call; the caller frees *adaptation with
 * nada_adaptation_free(). Generator, CLIPs and model may be freed before it.
 * Fails: NADA_INVALID_ARGUMENT (also a text too long for a CLIP), NADA_CANCELLED, NADA_OUT_OF_MEMORY, and what opening the model's CLIPs fails with.
 */
nada_status nada_adaptation_new(
    const nada_generator *generator,
    const nada_adaptation_options *options,
    const nada_call *call,
    nada_adaptation **adaptation);

/**
 * What to tell the user, in sentences: which words of source and target options.model does not know, and which it does, what else
 * nada_model_check_text() says of them, and what nada_clip_warning() says of the CLIPs; "" where there is nothing, and for NULL.
 * Threads: any. Owner: the adaptation; valid until it is freed.
 */
const char *nada_adaptation_warning(const nada_adaptation *adaptation);

/**
 * Trains one step, also beyond options.steps (where options.decay has ended the learning rate, nothing moves) and without snapshots or stop
 * rule. `call` and `loss` may be NULL.
 * Threads: any, one at a time. A failure, also a cancelled call, leaves the last complete step.
 * Fails: NADA_INVALID_ARGUMENT, NADA_BUSY, NADA_CANCELLED, NADA_NOT_FINITE.
 */
nada_status nada_adaptation_step(nada_adaptation *adaptation, const nada_call *call, float *loss);

/**
 * Trains until options.steps are done or the stop rule ends it, and takes snapshots. `call` may be NULL. A cancelled
 * run stays at its last complete step: its snapshots and domains can be taken, and another run goes on from there.
 * Threads: any, one at a time.
 * Fails: NADA_INVALID_ARGUMENT, NADA_BUSY, NADA_CANCELLED, NADA_NOT_FINITE, NADA_OUT_OF_MEMORY.
 */
nada_status nada_adaptation_run(nada_adaptation *adaptation, const nada_call *call);

/**
 * Says how far the adaptation is; struct_size is sizeof(nada_outcome).
 * Threads: any, one at a time. Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
 */
nada_status nada_adaptation_outcome(const nada_adaptation *adaptation, nada_outcome *outcome, size_t struct_size);

/**
 * Number of snapshots taken so far.
 * Threads: any, one at a time. Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
 */
nada_status nada_adaptation_snapshot_count(const nada_adaptation *adaptation, size_t *count);

/**
 * Says what is known of snapshot `index`, from 0; struct_size is sizeof(nada_snapshot).
 * Threads: any, one at a time. Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
 */
nada_status nada_adaptation_snapshot_info(
    const nada_adaptation *adaptation,
    size_t index,
    nada_snapshot *info,
    size_t struct_size);

/**
 * Snapshot `index` as a domain.
 * Threads: any, one at a time. Owner: the caller frees *domain with nada_domain_free(). Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
 */
nada_status nada_adaptation_snapshot_domain(const nada_adaptation *adaptation, size_t index, nada_domain **domain);

/**
 * The preview of snapshot `index`: pictures before and after.
 * Threads: any, one at a time. Owner: the caller frees *preview with nada_image_free(). Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
 */
nada_status nada_adaptation_snapshot_preview(const nada_adaptation *adaptation, size_t index, nada_image **preview);

/**
 * Draws `count` (1 to 8) pairs as they are now: pictures before adapting in the first row, after it in the second. `call` may be
 * NULL.
 * Threads: any, one at a time. Owner: the caller frees *preview with nada_image_free().
 * Fails: NADA_INVALID_ARGUMENT, NADA_BUSY, NADA_CANCELLED, NADA_NOT_FINITE, NADA_OUT_OF_MEMORY.
 */
nada_status nada_adaptation_preview(
    const nada_adaptation *adaptation,
    size_t count,
    const nada_call *call,
    nada_image **preview);

/**
 * The state now as a domain.
 * Threads: any, one at a time. Owner: the caller frees *domain with nada_domain_free(). Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
 */
nada_status nada_adaptation_domain(const nada_adaptation *adaptation, nada_domain **domain);

/**
 * What the stop rule chose as a domain; without one, or before it chose, the state now.
 * Threads: any, one at a time. Owner: the caller frees *domain with nada_domain_free(). Fails: NADA_INVALID_ARGUMENT, NADA_BUSY.
 */
nada_status nada_adaptation_result(const nada_adaptation *adaptation, nada_domain **domain);

/**
 * Frees an adaptation; NULL is allowed. Domains and pictures that were taken from it stay.
 * Threads: any, once no other thread uses it; not from a callback of its own run.
 */
void nada_adaptation_free(nada_adaptation *adaptation);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_domain Domains
 * What adaptations make of a generator.
 * @{
 */

/**
 * Opens a domain file (safetensors), of this version, an earlier one, or a later one that requires nothing new. `file` is UTF-8; `call`
 * may be NULL.
 * Threads: any. Owner: the caller frees *domain with nada_domain_free(); it may outlive the context.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_BAD_FORMAT, NADA_UNSUPPORTED (it needs a later
 * version, which the message names), NADA_CANCELLED.
 */
nada_status nada_domain_open(
    const nada_context *context,
    const char *file,
    const nada_call *call,
    nada_domain **domain);

/**
 * As nada_domain_open(), of the `size` bytes of a file that the program has in memory; `name` is what messages call them, NULL for "domain".
 * Threads: any. Owner: `data` and `name` are borrowed for the call, `data` is copied; the caller frees *domain with nada_domain_free().
 * Fails: as nada_domain_open(), and NADA_OUT_OF_MEMORY.
 */
nada_status nada_domain_open_memory(
    const nada_context *context,
    const void *data,
    size_t size,
    const char *name,
    const nada_call *call,
    nada_domain **domain);

/**
 * What leads from `base` to `adapted`, two generators of one shape such as one and somebody else's fine-tuning of it, as a domain of
 * `base`: the difference of the tensors that are not the same. `source` and `target` say in words what they draw; NULL or "" where nobody
 * knows. `call` may be NULL.
 * Threads: any. Owner: the caller frees *domain with nada_domain_free().
 * Fails: NADA_INVALID_ARGUMENT, NADA_MISMATCH (other shapes, or no difference), NADA_CANCELLED.
 */
nada_status nada_domain_between(
    const nada_generator *base,
    const nada_generator *adapted,
    const char *source,
    const char *target,
    const nada_call *call,
    nada_domain **domain);

/**
 * Whether the domain belongs to `generator`, and may be drawn with it: *fits becomes 1 or 0. A domain of an earlier version may belong to
 * it though their fingerprints, as texts, differ. The generator's fingerprint is found where it is not yet; `call` may be NULL.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
 */
nada_status nada_domain_fits(
    const nada_domain *domain,
    const nada_generator *generator,
    const nada_call *call,
    uint32_t *fits);

/**
 * The same change as a domain of `generator`, which it was not made from: of a relative of its own generator, such as one rounded to f16
 * or fine-tuned. Nobody has looked at what it draws there. `call` may be NULL.
 * Threads: any. Owner: the caller frees *moved with nada_domain_free().
 * Fails: NADA_INVALID_ARGUMENT, NADA_MISMATCH (the generator does not have the tensors that are changed, in their shapes), NADA_CANCELLED.
 */
nada_status nada_domain_for_generator(
    const nada_domain *domain,
    const nada_generator *generator,
    const nada_call *call,
    nada_domain **moved);

/**
 * The domain with 16-bit numbers, which take half the room in memory and in a file and keep 11 bits of each. `call` may be NULL.
 * Threads: any. Owner: the caller frees *half with nada_domain_free(). Fails: NADA_INVALID_ARGUMENT, NADA_UNSUPPORTED (too large a number),
 * NADA_CANCELLED.
 */
nada_status nada_domain_to_half(const nada_domain *domain, const nada_call *call, nada_domain **half);

/**
 * Writes a domain file (safetensors) under a temporary name and renames it: a failure, also a cancelled call, leaves what was there. `file` is
 * UTF-8; `call` may be NULL. What was in the file that the domain was opened from and this version does not know is written again.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_IO, NADA_NOT_FOUND (its folder), NADA_CANCELLED.
 */
nada_status nada_domain_save(const nada_domain *domain, const char *file, const nada_call *call);

/** What it leads away from, in words; "" for NULL. Threads: any. Owner: the domain; valid until it is freed. */
const char *nada_domain_source(const nada_domain *domain);

/** What it leads to, in words; "" for NULL. Threads: any. Owner: the domain; valid until it is freed. */
const char *nada_domain_target(const nada_domain *domain);

/** nada_generator_fingerprint() of the generator it belongs to; "" for NULL. Threads: any. Owner: the domain; valid until it is freed. */
const char *nada_domain_fingerprint(const nada_domain *domain);

/**
 * How it came about: "adapted", "mixed", "imported" (two generators), "edit", or what a later version calls it; "" for NULL.
 * Threads: any. Owner: the domain; valid until it is freed.
 */
const char *nada_domain_origin(const nada_domain *domain);

/** Number of CLIPs it was made with; 0 for NULL. Threads: any. */
size_t nada_domain_clip_count(const nada_domain *domain);

/**
 * The name of the CLIP `index` it was made with.
 * Threads: any. Owner: the domain; *name is valid until it is freed. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_domain_clip_name(const nada_domain *domain, size_t index, const char **name);

/** Steps it was trained for; 0 for NULL. Threads: any. */
uint32_t nada_domain_step(const nada_domain *domain);

/** What it changes, a nada_parameters. Threads: any. Fails: NADA_INVALID_ARGUMENT. */
nada_status nada_domain_parameters(const nada_domain *domain, nada_parameters *parameters);

/** Frees a domain; NULL is allowed. Threads: any, once no other thread uses it. */
void nada_domain_free(nada_domain *domain);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_frame Frames
 * Square parts of large pictures, turned by an angle, restyled and blended back where they are.
 * @{
 */

/** A square in a picture, turned by an angle. Pixel (x, y) reaches from (x, y) to (x + 1, y + 1), from the top left. */
struct nada_frame {
    /** sizeof(nada_frame) where the program was compiled. */
    size_t struct_size;
    /** In pixels; inside the picture. */
    double centre_x;
    double centre_y;
    /**
     * In pixels, from 1 to twice the picture's longer side. Where the frame reaches beyond the picture, the nearest pixels at its edge stand
     * for what is not there.
     */
    double side;
    /** In degrees, clockwise as one sees it: what leans to the right by so much in the picture is upright in the frame. */
    double angle;
};

/** Which part of a picture, and how what is drawn there blends with what was there. */
struct nada_frame_options {
    /** sizeof(nada_frame_options) where the program was compiled. */
    size_t struct_size;
    /** What the generator sees. Borrowed for the call. NULL (the default) is the picture's largest centred square. */
    const nada_frame *frame;
    /**
     * Pixels, from the edges of the frame inwards, over which what is drawn fades in; 0 for hard edges. Negative (the default): 1/16 of
     * the frame's side. At most half the side counts.
     */
    float feather;
    /** Of what is drawn, in [0, 1]. Default: 1. */
    float opacity;
    /**
     * 0 (the default): the frame becomes the source blended with what is drawn; alpha is the source's. 1: it becomes what is drawn alone,
     * for a layer above the picture: its alpha is feather times opacity times the source's alpha. Needs a format with alpha.
     */
    uint32_t replace;
    /**
     * Edges of the frame that do not fade, a sum of nada_edge numbers: those at the border of the user's picture, where a fade would leave
     * a rim of the old. Default: 0, all fade.
     */
    uint32_t hard_edges;
};

/** Edges of a frame, as its picture has them; the numbers add up. */
typedef int32_t nada_edge;
enum {
    NADA_EDGE_LEFT = 1,
    NADA_EDGE_TOP = 2,
    NADA_EDGE_RIGHT = 4,
    NADA_EDGE_BOTTOM = 8,
};

/**
 * Fills `options` with the defaults; struct_size is sizeof(nada_frame_options).
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_frame_options_init(nada_frame_options *options, size_t struct_size);

/**
 * Restyles a part of a picture where it is: the frame is inverted, drawn with the domains of `render`, resampled (bicubic) and blended into
 * `target`, which has the size of `source` and any format, and may be the same pixels (but must not overlap them otherwise). Pixels that the
 * frame does not cover are not touched. Colours blend as sRGB numbers. Nothing is written before everything is computed. Only the frame is read
 * and converted, a part at a time: the memory that it takes does not grow with the picture. `options` may be NULL for the largest centred
 * square; the others as for nada_generator_restyle(). To draw one picture several times, as a slider does: nada_image_from_frame(),
 * nada_generator_invert(), and then nada_generator_render_frame().
 * Threads: any, while no other one uses the pixels. Owner: pixels are borrowed for the call.
 * Fails: NADA_INVALID_ARGUMENT (also a frame outside of the picture, and pixels in it that are not finite), and as
 * nada_generator_restyle(); the target is then as it was.
 */
nada_status nada_generator_restyle_frame(
    const nada_generator *generator,
    const nada_pixels *source,
    const nada_frame_options *options,
    const nada_inversion_options *inversion,
    const nada_render_options *render,
    const nada_call *call,
    const nada_pixels_mut *target);

/**
 * As nada_generator_restyle_frame() with a latent that is known: draws its one point into the frame. `options`, `render` and `call` may be
 * NULL; a NULL `render` draws without noise (or with the latent's own maps).
 * Threads: any, while no other one uses the pixels. Owner: pixels are borrowed for the call.
 * Fails: NADA_INVALID_ARGUMENT, and as nada_generator_render(); the target is then as it was.
 */
nada_status nada_generator_render_frame(
    const nada_generator *generator,
    const nada_pixels *source,
    const nada_frame_options *options,
    const nada_latent *latent,
    const nada_render_options *render,
    const nada_call *call,
    const nada_pixels_mut *target);

/**
 * A frame as an image, upright, to invert it; `max_size` is the most pixels that it has a side (nada_generator_size() is enough for that
 * generator), 0 for as many as the frame has. `frame` may be NULL for the largest centred square, and so may `call`.
 * Threads: any. Owner: `pixels` and `frame` are borrowed for the call; the caller frees *image with nada_image_free().
 * Fails: NADA_INVALID_ARGUMENT (also a frame outside of the picture, and pixels in it that are not finite), NADA_CANCELLED, NADA_OUT_OF_MEMORY.
 */
nada_status nada_image_from_frame(
    const nada_pixels *pixels,
    const nada_frame *frame,
    uint32_t max_size,
    const nada_call *call,
    nada_image **image);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_face Faces in photos
 * Found, cut out upright, and put back.
 * @{
 */

/** A face. All numbers count pixels from the top left corner of the top left one, as those of nada_frame do; they may lie beyond the photo. */
struct nada_face {
    /** As passed to nada_faces_get(). */
    size_t struct_size;
    /** Of its box. */
    double left;
    double top;
    double right;
    double bottom;
    /** x, y of the eye on the left as one sees it, the eye on the right, the tip of the nose, the left and the right corner of the mouth. */
    double points[10];
    /** The square around it, turned as the face is, that generators trained on FFHQ or by its rule see: nada_frame's fields. */
    double centre_x;
    double centre_y;
    double side;
    double angle;
    /** How sure the detector is, in (0, 1]. */
    float score;
    /** Always 0. */
    uint32_t reserved;
};

/**
 * Finds the faces of a photo, however they are turned. `min_face` is the least width of a face in pixels, from 12 on, which decides how long it
 * takes; 0 for 20, or a 25th of the photo's shorter side where that is more. A photo without a face is no failure: *faces is then empty. `call`
 * may be NULL; there are no steps, so nobody is told of progress.
 * Threads: any. Owner: `pixels` are borrowed for the call; the caller frees *faces with nada_faces_free().
 * Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED, NADA_OUT_OF_MEMORY.
 */
nada_status nada_faces_find(
    const nada_context *context,
    const nada_pixels *pixels,
    uint32_t min_face,
    const nada_call *call,
    nada_faces **faces);

/** How many; 0 for NULL. Threads: any. */
size_t nada_faces_count(const nada_faces *faces);

/**
 * Fills *face with a face, by its number from 0; struct_size is sizeof(nada_face).
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_faces_get(const nada_faces *faces, size_t index, nada_face *face, size_t struct_size);

/** Frees faces; NULL is allowed. Threads: any, once no other thread uses them. */
void nada_faces_free(nada_faces *faces);

/**
 * Cuts a frame out of a photo, upright, as an image of `size` pixels a side, as the pictures of FFHQ were made: what lies outside of the photo is
 * its mirror, blurred. `samples`: in how many steps a side each pixel is looked at; 4 as FFHQ did, 1 as the scripts of encoders do, 0 for 4. Up
 * to 8192 pixels and 16384 steps a side.
 * The frame's centre may lie outside of the photo. For a frame that is to be inverted by a generator of photos; nada_image_from_frame() is
 * for other pictures.
 * Threads: any. Owner: `pixels` and `frame` are borrowed for the call; the caller frees *image with nada_image_free().
 * Fails: NADA_INVALID_ARGUMENT (also a frame outside of the photo), NADA_CANCELLED, NADA_OUT_OF_MEMORY.
 */
nada_status nada_image_from_face(
    const nada_context *context,
    const nada_pixels *pixels,
    const nada_frame *frame,
    uint32_t size,
    uint32_t samples,
    const nada_call *call,
    nada_image **image);

/**
 * Puts a drawn square back into a frame of `source` and writes the pixels around the frame, and no other, of `target`, which has the size of
 * `source` and any format, and may be the same pixels (but must not overlap them otherwise). `edit` fades in over `feather` of its side from its
 * edges, in (0, 0.5]; negative for 0.1. With a `reconstruction`, the same face as it is drawn without the edit, only the difference between the
 * two is added, and the photo keeps its own detail; NULL for the edit itself. Nothing is written before everything is known to be right.
 * Threads: any, while no other one uses the pixels. Owner: everything is borrowed for the call.
 * Fails: NADA_INVALID_ARGUMENT (also a frame outside of the photo, and pixels in it that are not finite); the target is then as it was.
 */
nada_status nada_image_put_back(
    const nada_context *context,
    const nada_pixels *source,
    const nada_frame *frame,
    const nada_image *edit,
    const nada_image *reconstruction,
    float feather,
    const nada_pixels_mut *target);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_gallery Galleries
 * Folders of installed domains.
 * @{
 */

/**
 * Opens a folder of domains, whose files end in ".nada.safetensors". `folder` is UTF-8; NULL is the user's: $NADA_DOMAINS, else
 * $XDG_DATA_HOME/nada/domains (by default ~/.local/share/nada/domains). A folder that is not there is an empty gallery. Files that
 * cannot be read as domains are skipped and counted; files that are being written are not seen. `call` may be NULL.
 * Threads: any. Owner: the caller frees *gallery with nada_gallery_free(); it may outlive the context.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND (a user without a home), NADA_IO, NADA_CANCELLED.
 */
nada_status nada_gallery_open(
    const nada_context *context,
    const char *folder,
    const nada_call *call,
    nada_gallery **gallery);

/** The folder; "" for NULL. Threads: any. Owner: the gallery; valid until it is freed. */
const char *nada_gallery_folder(const nada_gallery *gallery);

/** Number of domains; 0 for NULL. Threads: any. */
size_t nada_gallery_count(const nada_gallery *gallery);

/** Number of files that end as domains do and could not be read as such; 0 for NULL. Threads: any. */
size_t nada_gallery_skipped(const nada_gallery *gallery);

/**
 * The name of domain `index`, its file's without ending; they are sorted by it. "" for an index out of range and for NULL.
 * Threads: any. Owner: the gallery; valid until it is freed.
 */
const char *nada_gallery_name(const nada_gallery *gallery, size_t index);

/**
 * The path of domain `index`; "" for an index out of range and for NULL.
 * Threads: any. Owner: the gallery; valid until it is freed.
 */
const char *nada_gallery_file(const nada_gallery *gallery, size_t index);

/**
 * What domain `index` leads away from, in words; "" for an index out of range and for NULL.
 * Threads: any. Owner: the gallery; valid until it is freed.
 */
const char *nada_gallery_source(const nada_gallery *gallery, size_t index);

/**
 * What domain `index` leads to, in words; "" for an index out of range and for NULL.
 * Threads: any. Owner: the gallery; valid until it is freed.
 */
const char *nada_gallery_target(const nada_gallery *gallery, size_t index);

/**
 * nada_generator_fingerprint() of the generator that domain `index` belongs to; "" for an index out of range and for NULL.
 * Threads: any. Owner: the gallery; valid until it is freed.
 */
const char *nada_gallery_fingerprint(const nada_gallery *gallery, size_t index);

/**
 * As nada_domain_fits(), of domain `index`, without reading its numbers. `call` may be NULL.
 * Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED.
 */
nada_status nada_gallery_fits(
    const nada_gallery *gallery,
    size_t index,
    const nada_generator *generator,
    const nada_call *call,
    uint32_t *fits);

/**
 * The thumbnail of domain `index`, read from its file, at most 256 pixels a side; *image stays NULL where it has none.
 * Threads: any. Owner: the caller frees *image with nada_image_free().
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND (deleted since), NADA_IO, NADA_BAD_FORMAT.
 */
nada_status nada_gallery_thumbnail(const nada_gallery *gallery, size_t index, nada_image **image);

/**
 * Opens domain `index`; `call` may be NULL.
 * Threads: any. Owner: the caller frees *domain with nada_domain_free(); it may outlive the gallery.
 * Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND (deleted since), NADA_IO, NADA_BAD_FORMAT, NADA_CANCELLED.
 */
nada_status nada_gallery_domain(const nada_gallery *gallery, size_t index, const nada_call *call, nada_domain **domain);

/**
 * Writes a domain into the gallery's folder, which is made where it is missing: under a temporary name first, then renamed, so that a
 * half file is never seen. `name` is a file name without ending; NULL makes one from the target's words. A name that is taken gets -2,
 * -3 and so on: nothing is overwritten. `thumbnail` may be NULL; it is kept inside the domain's file, shrunk to 256 pixels a side and
 * over white. Temporary files that killed processes left are removed. A cancelled call leaves no file; `call` may be NULL.
 * `file` gets the path; it has room for `size` bytes and *needed gets the bytes that the whole takes, as for nada_model_check_text().
 * The gallery does not change: open the folder again to see the domain.
 * Threads: any, also of several processes. Fails: NADA_INVALID_ARGUMENT (also a name that is no file name), NADA_IO, NADA_NOT_FOUND,
 * NADA_CANCELLED.
 */
nada_status nada_gallery_install(
    const nada_gallery *gallery,
    const nada_domain *domain,
    const char *name,
    const nada_image *thumbnail,
    const nada_call *call,
    char *file,
    size_t size,
    size_t *needed);

/** Frees a gallery; NULL is allowed. Threads: any, once no other thread uses it. */
void nada_gallery_free(nada_gallery *gallery);

/** @} */


/* ============================================================================================================== */
/**
 * @defgroup nada_evaluation Evaluation
 * Figures of a domain.
 * @{
 */

/** Figures of an evaluation that no CLIP judges. */
struct nada_measures {
    /** As passed to nada_evaluation_measures(). */
    size_t struct_size;
    /** Pictures that were drawn. */
    uint32_t pictures;
    /** 1 where the pack has a ground truth of the target, which gives `distance`; else 0, and `distance` is 0. */
    uint32_t has_truth;
    /** Mean |adapted - truth| over mean |unadapted - truth|; 0 is perfect. */
    float distance;
    /** Share of adapted pictures that are still most like their own unadapted one. */
    float pairing;
};

/** Figures of an evaluation by one CLIP. */
struct nada_clip_measures {
    /** As passed to nada_evaluation_clip_measures(). */
    size_t struct_size;
    /** Mean cosine of the adapted pictures to the target text. */
    float quality;
    /** The same of the unadapted ones. */
    float quality_before;
    /** Mean of 1 - cosine over all pairs of adapted pictures. */
    float diversity;
    /** The same of the unadapted ones. */
    float diversity_before;
};

/**
 * Measures domains, all of the pack's generator, on the pack's held-out latents with its CLIPs, which are read where they are not yet. `target`
 * is the text that quality is measured to, NULL for the last domain's; `truth` names a ground truth of the pack, NULL for the one that its
 * words tie to the target, where there is one. `strengths` may be NULL for 1 each, and `call` may be NULL.
 * Threads: any. Owner: all is borrowed for the call; the caller frees *evaluation with nada_evaluation_free().
 * Fails: NADA_INVALID_ARGUMENT (also a truth that the pack does not have), NADA_UNSUPPORTED (a pack without held-out latents), NADA_MISMATCH (a
 * domain of another generator), NADA_CANCELLED, NADA_OUT_OF_MEMORY, and what reading the pack's files fails with.
 */
nada_status nada_model_evaluate(
    const nada_model *model,
    const nada_domain *const *domains,
    const float *strengths,
    size_t domain_count,
    const char *target,
    const char *truth,
    const nada_call *call,
    nada_evaluation **evaluation);

/**
 * The figures that no CLIP judges; struct_size is sizeof(nada_measures).
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_evaluation_measures(const nada_evaluation *evaluation, nada_measures *measures, size_t struct_size);

/**
 * The name of the ground truth that `distance` is to; "" where there is none, and for NULL.
 * Threads: any. Owner: the evaluation; valid until it is freed.
 */
const char *nada_evaluation_truth(const nada_evaluation *evaluation);

/** Number of CLIPs that judged; 0 for NULL. Threads: any. */
size_t nada_evaluation_clip_count(const nada_evaluation *evaluation);

/**
 * The name of CLIP `index`, from 0; "" for an index out of range and for NULL.
 * Threads: any. Owner: the evaluation; valid until it is freed.
 */
const char *nada_evaluation_clip_name(const nada_evaluation *evaluation, size_t index);

/**
 * What CLIP `index` finds; struct_size is sizeof(nada_clip_measures).
 * Threads: any. Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_evaluation_clip_measures(
    const nada_evaluation *evaluation,
    size_t index,
    nada_clip_measures *measures,
    size_t struct_size);

/**
 * The first pictures unadapted, below them adapted, below them (where there is one) the ground truth.
 * Threads: any. Owner: the caller frees *sheet with nada_image_free(). Fails: NADA_INVALID_ARGUMENT.
 */
nada_status nada_evaluation_sheet(const nada_evaluation *evaluation, nada_image **sheet);

/** Frees an evaluation; NULL is allowed. Threads: any, once no other thread uses it. */
void nada_evaluation_free(nada_evaluation *evaluation);

/** @} */

#ifdef __cplusplus
}
#endif

#endif /* NADA_H */
