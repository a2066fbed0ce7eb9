/*
 * Functions for gaugefn in C, or in any language that can speak C.
 *
 * A library has a note, which is read before any of its code is loaded, and the symbol `gaugefn_library` with the
 * table of its functions. GAUGEFN_EXPORT makes both:
 *
 *     static void call(void *instance, const gaugefn_call *call) { ... }
 *     static const gaugefn_function functions[] = {
 *         { .name = GAUGEFN_TEXT("handler"), .open = open, .call = call, .release = release, .close = close },
 *     };
 *     GAUGEFN_EXPORT(functions);
 *
 *     cc -shared -fPIC -I path/to/sdk/include -o libvm.so vm.c
 *
 * Sizes: structures begin with, or come with, their size, and fields are only ever added at the end. Whoever knows
 * fewer of them leaves the rest alone.
 *
 * Memory: each side frees its own. What a call is given belongs to the runtime and lasts as long as the call. What
 * outcomes point to belongs to the library and lasts until `release`, which comes right after the call.
 *
 * State: what an instance keeps between calls ends with it, unless the function can `save` and `load` it. Then it is
 * carried to a newer version of the library, by entries that have a name and a JSON text each.
 *
 * Threads: one instance is never called twice at the same time, and always from the same thread. The runtime's `log`
 * and `measure` may be called from any thread, at any time after `open`. A library is never unloaded.
 */
#ifndef GAUGEFN_H
#define GAUGEFN_H

#include <stddef.h>
#include <stdint.h>
/* tells which C library this is */
#include <features.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Differs where library and runtime cannot work together. */
#define GAUGEFN_ABI_MAJOR 1u
/* Grows with each field that is added. 1 added `close` of gaugefn_function, 2 its `save` and `load`. */
#define GAUGEFN_ABI_MINOR 2u
/* The version of the header, for messages. */
#define GAUGEFN_SDK_VERSION "0.1.0"

/* What the library is built for: architecture, system, C library. */
#ifndef GAUGEFN_TARGET
#if defined(__x86_64__)
#define GAUGEFN_ARCH "x86_64"
#elif defined(__aarch64__)
#define GAUGEFN_ARCH "aarch64"
#elif defined(__i386__)
#define GAUGEFN_ARCH "x86"
#elif defined(__arm__)
#define GAUGEFN_ARCH "arm"
#elif defined(__riscv) && __riscv_xlen == 64
#define GAUGEFN_ARCH "riscv64"
#elif defined(__powerpc64__)
#define GAUGEFN_ARCH "powerpc64"
#elif defined(__s390x__)
#define GAUGEFN_ARCH "s390x"
#elif defined(__loongarch64)
#define GAUGEFN_ARCH "loongarch64"
#else
#error "define GAUGEFN_TARGET as the error of gaugefn spells it, such as \"x86_64-linux-gnu\""
#endif
#ifdef __GLIBC__
#define GAUGEFN_TARGET GAUGEFN_ARCH "-linux-gnu"
#else
#define GAUGEFN_TARGET GAUGEFN_ARCH "-linux-musl"
#endif
#endif

/* What a panic does: there is none in C. A C++ library must catch its exceptions before they leave a call. */
#define GAUGEFN_PANIC_NONE 0u
#define GAUGEFN_PANIC_UNWIND 1u
#define GAUGEFN_PANIC_ABORT 2u

/* `status` of an outcome. */
#define GAUGEFN_UNSET 0u    /* the library has said nothing: a failure */
#define GAUGEFN_EMPTY 1u    /* nothing to store */
#define GAUGEFN_OUTPUT 2u   /* `value` is the result, as JSON text in one line; `null` is empty */
#define GAUGEFN_FAILED 3u   /* the call failed: `value` is a line of text, `report` may have more */
#define GAUGEFN_UNUSABLE 4u /* the event itself is unusable, no further attempt can help: `value` is a line of text */

/* `level` of `log`. */
#define GAUGEFN_ERROR 1u
#define GAUGEFN_WARN 2u
#define GAUGEFN_INFO 3u
#define GAUGEFN_DEBUG 4u
#define GAUGEFN_TRACE 5u

/* `measure` of `measure`. */
#define GAUGEFN_COUNT 1u   /* adds a whole number, not negative */
#define GAUGEFN_GAUGE 2u   /* sets a number that may go up and down */
#define GAUGEFN_OBSERVE 3u /* adds a number to a distribution */

/* `remaining` where there is no limit of time. */
#define GAUGEFN_NO_LIMIT (-1)

/* Bytes that somebody else owns; a text is UTF-8 without a final zero byte. Null says that there is none. */
typedef struct gaugefn_slice {
    const uint8_t *data;
    size_t len;
} gaugefn_slice;

/* A slice of a string literal. */
#define GAUGEFN_TEXT(literal) { (const uint8_t *)("" literal), sizeof(literal) - 1 }

/* A label of a measurement. */
typedef struct gaugefn_label {
    gaugefn_slice key;
    gaugefn_slice value;
} gaugefn_label;

/* The runtime, as a function sees it; valid for the life of the process. */
typedef struct gaugefn_host {
    size_t size;               /* of this structure */
    void *handle;              /* for the functions below */
    /* a line of the log, with the id of the event that it is about, or none */
    void (*log)(void *handle, gaugefn_slice event_id, uint32_t level, gaugefn_slice text);
    /* a measurement: gaugefn_function_<name>{function, labels} */
    void (*measure)(void *handle, uint32_t measure, gaugefn_slice name, double value, const gaugefn_label *labels,
                    size_t count);
    gaugefn_slice function_name; /* the function's label in the configuration */
    gaugefn_slice host;        /* of the backend that the input comes from, or none */
    gaugefn_slice input_key;   /* what is watched, or none */
    gaugefn_slice output_key;  /* where results go, or none */
    int64_t function_mtime;    /* when the library's file was last modified, in nanoseconds since 1970 */
    uint32_t port;             /* of that backend, 0 where it is unknown */
} gaugefn_host;

/* One event. */
typedef struct gaugefn_event {
    gaugefn_slice id;
    gaugefn_slice payload;     /* JSON, but it may be malformed; no final zero byte */
    uint32_t attempt;          /* how often the function was called with it, this call included */
} gaugefn_event;

/* What became of one event. It begins as zeros. */
typedef struct gaugefn_outcome {
    uint32_t status;
    gaugefn_slice value;
    gaugefn_slice report;
} gaugefn_outcome;

/* A batch. */
typedef struct gaugefn_call {
    size_t size;               /* of this structure */
    size_t count;              /* how many events, and how many outcomes */
    const uint8_t *events;     /* see gaugefn_event_at */
    size_t event_size;
    uint8_t *outcomes;         /* see gaugefn_outcome_at */
    size_t outcome_size;
    int64_t remaining;         /* how long each event may take, in nanoseconds, or GAUGEFN_NO_LIMIT */
} gaugefn_call;

/* The event of this number. */
static inline const gaugefn_event *gaugefn_event_at(const gaugefn_call *call, size_t n) {
    return (const gaugefn_event *)(const void *)(call->events + n * call->event_size);
}

/* The outcome to fill in for the event of this number. */
static inline gaugefn_outcome *gaugefn_outcome_at(const gaugefn_call *call, size_t n) {
    return (gaugefn_outcome *)(void *)(call->outcomes + n * call->outcome_size);
}

/* An entry of a state. */
typedef struct gaugefn_entry {
    gaugefn_slice key;         /* its name; comes once */
    gaugefn_slice value;       /* JSON text */
} gaugefn_entry;

/* Takes an instance's state, entry by entry; valid during `save`. Texts are copied before its functions return. */
typedef struct gaugefn_save {
    size_t size;               /* of this structure */
    void *handle;              /* for the functions below */
    /* an entry */
    void (*put)(void *handle, gaugefn_slice key, gaugefn_slice value);
    /* the name of something that cannot be saved, and why */
    void (*lose)(void *handle, gaugefn_slice name, gaugefn_slice reason);
} gaugefn_save;

/* A state to go on with; the runtime's, valid during `load`. */
typedef struct gaugefn_load {
    size_t size;               /* of this structure */
    size_t count;              /* how many entries */
    const uint8_t *entries;    /* see gaugefn_entry_at */
    size_t entry_size;
    void *handle;              /* for the function below */
    /* the state is not taken, and why; the text is copied before this returns */
    void (*refuse)(void *handle, gaugefn_slice reason);
} gaugefn_load;

/* The entry of this number. */
static inline const gaugefn_entry *gaugefn_entry_at(const gaugefn_load *load, size_t n) {
    return (const gaugefn_entry *)(const void *)(load->entries + n * load->entry_size);
}

/* An exported function. All but `name` and `call` may be null. */
typedef struct gaugefn_function {
    gaugefn_slice name;        /* what a configuration calls it: handler = "..." */
    /* Makes an instance: whatever is kept between calls. May answer null. */
    void *(*open)(const gaugefn_host *host);
    /* Fills in one outcome for each event, in order. */
    void (*call)(void *instance, const gaugefn_call *call);
    /* Frees what the outcomes of this call hold. */
    void (*release)(void *instance, const gaugefn_call *call);
    /* Ends an instance. Once, while draining. */
    void (*close)(void *instance);
    /* Tells the state of an instance, which goes on afterwards. Between two calls. Since minor 2. */
    void (*save)(void *instance, const gaugefn_save *save);
    /* Replaces the state of an instance, but for what `save` could not tell; one that refuses keeps what it has.
     * Between two calls. Since minor 2. */
    void (*load)(void *instance, const gaugefn_load *load);
} gaugefn_function;

/* The table of a library, exported as `gaugefn_library`. */
typedef struct gaugefn_library_table {
    size_t size;               /* of this structure */
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t panic;
    gaugefn_slice sdk_version;
    const uint8_t *functions;
    size_t function_count;
    size_t function_size;      /* from one function to the next */
} gaugefn_library_table;

/* What the note says. */
typedef struct gaugefn_facet {
    uint32_t size;             /* of this structure */
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t panic;
    char sdk_version[32];      /* filled up with zero bytes */
    char target[64];           /* filled up with zero bytes */
} gaugefn_facet;

/* The note: section .note.gaugefn, owner "gaugefn", type 1. */
typedef struct gaugefn_note {
    uint32_t owner_size;
    uint32_t content_size;
    uint32_t kind;
    char owner[8];
    gaugefn_facet content;
} gaugefn_note;

/* Exports an array of gaugefn_function. Once per library. */
#define GAUGEFN_EXPORT(table)                                                                                         \
    __attribute__((used, aligned(4), section(".note.gaugefn"))) static const gaugefn_note gaugefn_own_note = {         \
        8, sizeof(gaugefn_facet), 1, "gaugefn",                                                                       \
        { sizeof(gaugefn_facet), GAUGEFN_ABI_MAJOR, GAUGEFN_ABI_MINOR, GAUGEFN_PANIC_NONE, GAUGEFN_SDK_VERSION,       \
          GAUGEFN_TARGET }                                                                                            \
    };                                                                                                                \
    __attribute__((visibility("default"))) extern const gaugefn_library_table gaugefn_library;                        \
    const gaugefn_library_table gaugefn_library = { sizeof(gaugefn_library_table), GAUGEFN_ABI_MAJOR,                 \
        GAUGEFN_ABI_MINOR, GAUGEFN_PANIC_NONE, GAUGEFN_TEXT(GAUGEFN_SDK_VERSION), (const uint8_t *)(table),           \
        sizeof(table) / sizeof((table)[0]), sizeof((table)[0]) }

#ifdef __cplusplus
}
#endif

#endif
