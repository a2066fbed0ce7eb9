/*
 * Plays the runtime to a library, by the letter of the ABI, so that a memory checker sees what the library does:
 *
 *     driver LIBRARY FUNCTION EVENTS ROUNDS
 *
 * The lines of the file are the events; batches of several sizes go over them ROUNDS times. Whatever belongs to the
 * runtime is an allocation of its own, of exactly its size, and is freed as soon as the ABI says that it is over; every
 * byte that the library answers is read. Between two rounds the state goes on in another instance, and the first is
 * closed. The last line of the output counts the outcomes by status, entries, and lines of the log.
 */
#include "gaugefn.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST 7

/* what a later minor may look like */
typedef struct {
    gaugefn_host known;
    char more[24];
} host_type;
typedef struct {
    gaugefn_call known;
    char more[8];
} call_type;
typedef struct {
    gaugefn_event known;
    char more[16];
} event_type;
typedef struct {
    gaugefn_outcome known;
    char more[40];
} outcome_type;
typedef struct {
    gaugefn_entry known;
    char more[8];
} entry_type;

static unsigned long counts[8], entries_saved, entries_lost, refusals, logged, measured;
static volatile unsigned checksum;

static void fail(const char *what, const char *of) {
    fprintf(stderr, "driver: %s %s\n", what, of);
    exit(2);
}

static void *allocated(size_t size) {
    void *made = malloc(size ? size : 1);
    if (!made)
        fail("out of memory", "");
    return made;
}

/* a copy that ends where it ends */
static gaugefn_slice copied(const void *from, size_t len) {
    uint8_t *copy = allocated(len);
    memcpy(copy, from, len);
    gaugefn_slice slice = { copy, len };
    return slice;
}

static void read_all(gaugefn_slice slice) {
    unsigned sum = 0;
    for (size_t n = 0; slice.data && n < slice.len; n++)
        sum = sum * 31 + slice.data[n];
    checksum += sum;
    /* a checker that looks at decisions only has one to look at */
    if (sum == 0xdeadbeef)
        fputs("", stderr);
}

static void take_log(void *handle, gaugefn_slice event_id, uint32_t level, gaugefn_slice text) {
    read_all(event_id);
    read_all(text);
    (void)handle;
    logged += level > 0;
}

static void take_measure(void *handle, uint32_t measure, gaugefn_slice name, double value, const gaugefn_label *labels,
                         size_t count) {
    (void)handle;
    (void)value;
    read_all(name);
    for (size_t n = 0; n < count; n++) {
        read_all(labels[n].key);
        read_all(labels[n].value);
    }
    measured += measure > 0;
}

typedef struct {
    entry_type *entries;
    size_t count, room;
} taken;

static void put(void *handle, gaugefn_slice key, gaugefn_slice value) {
    taken *to = handle;
    if (to->count == to->room) {
        to->room = to->room * 2 + 4;
        to->entries = realloc(to->entries, to->room * sizeof *to->entries);
        if (!to->entries)
            fail("out of memory", "");
    }
    entry_type *entry = &to->entries[to->count++];
    memset(entry, 0xa5, sizeof *entry);
    entry->known.key = copied(key.data, key.len);
    entry->known.value = copied(value.data, value.len);
    entries_saved++;
}

static void lose(void *handle, gaugefn_slice name, gaugefn_slice reason) {
    (void)handle;
    read_all(name);
    read_all(reason);
    entries_lost++;
}

static void refuse(void *handle, gaugefn_slice reason) {
    read_all(reason);
    *(int *)handle = 1;
    refusals++;
}

static void forget(taken *state) {
    for (size_t n = 0; n < state->count; n++) {
        free((void *)state->entries[n].known.key.data);
        free((void *)state->entries[n].known.value.data);
    }
    free(state->entries);
    memset(state, 0, sizeof *state);
}

static taken save(const gaugefn_function *function, void *instance) {
    taken state = { 0 };
    gaugefn_save saving = { sizeof saving, &state, put, lose };
    function->save(instance, &saving);
    return state;
}

/* What is loaded is gone when this returns. */
static int load(const gaugefn_function *function, void *instance, taken state) {
    int refused = 0;
    gaugefn_load *loading = allocated(sizeof *loading);
    *loading = (gaugefn_load){ sizeof *loading, state.count, (const uint8_t *)state.entries, sizeof(entry_type),
                               &refused, refuse };
    function->load(instance, loading);
    free(loading);
    forget(&state);
    return !refused;
}

static void run_batch(const gaugefn_function *function, void *instance, char *const *lines, size_t count, int again) {
    event_type *events = allocated(count * sizeof *events);
    outcome_type *outcomes = calloc(count, sizeof *outcomes);
    call_type *call = allocated(sizeof *call);
    if (!outcomes)
        fail("out of memory", "");
    memset(events, 0xa5, count * sizeof *events);
    for (size_t n = 0; n < count; n++) {
        events[n].known.id = copied("e12", 3);
        events[n].known.payload = copied(lines[n], strlen(lines[n]));
        events[n].known.attempt = 1 + (uint32_t)again;
    }
    memset(call, 0xa5, sizeof *call);
    call->known = (gaugefn_call){ sizeof *call, count, (const uint8_t *)events, sizeof *events, (uint8_t *)outcomes,
                                  sizeof *outcomes, again ? 1000000000 : GAUGEFN_NO_LIMIT };
    function->call(instance, &call->known);
    /* events and their bytes last until `call` returns */
    for (size_t n = 0; n < count; n++) {
        free((void *)events[n].known.id.data);
        free((void *)events[n].known.payload.data);
    }
    free(events);
    for (size_t n = 0; n < count; n++) {
        const gaugefn_outcome *outcome = &outcomes[n].known;
        counts[outcome->status < 7 ? outcome->status : 7]++;
        read_all(outcome->value);
        read_all(outcome->report);
    }
    if (function->release)
        function->release(instance, &call->known);
    free(outcomes);
    free(call);
}

int main(int count, char **arguments) {
    if (count != 5)
        fail("usage: driver LIBRARY FUNCTION EVENTS", "ROUNDS");
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail("cannot load", dlerror());
    const gaugefn_library_table *table = dlsym(library, "gaugefn_library");
    if (!table || table->function_size < sizeof(gaugefn_function))
        fail("no functions of this ABI in", arguments[1]);
    const gaugefn_function *function = NULL;
    for (size_t n = 0; n < table->function_count; n++) {
        const gaugefn_function *one = (const void *)(table->functions + n * table->function_size);
        if (one->name.len == strlen(arguments[2]) && !memcmp(one->name.data, arguments[2], one->name.len))
            function = one;
    }
    if (!function || !function->save || !function->load || !function->close)
        fail("no such function, or it is incomplete:", arguments[2]);

    FILE *file = fopen(arguments[3], "r");
    if (!file)
        fail("cannot read", arguments[3]);
    size_t line_count = 0, line_room = 0;
    char **lines = NULL, *line = NULL;
    size_t room = 0;
    for (ssize_t length; (length = getline(&line, &room, file)) > 0;) {
        if (line_count == line_room) {
            line_room = line_room * 2 + 16;
            lines = realloc(lines, line_room * sizeof *lines);
        }
        if (line[length - 1] == '\n')
            line[length - 1] = 0;
        lines[line_count++] = strdup(line);
    }
    free(line);
    fclose(file);

    static host_type host;
    host.known = (gaugefn_host){ .size = sizeof host, .handle = &host, .log = take_log, .measure = take_measure,
                                 .function_name = GAUGEFN_TEXT("driven"), .host = GAUGEFN_TEXT("localhost"),
                                 .function_mtime = 1700000000000000000, .port = 6379 };
    void *instance = function->open ? function->open(&host.known) : NULL;
    int rounds = atoi(arguments[4]);
    for (int round = 0; round < rounds; round++) {
        size_t at = 0;
        for (size_t batch = 1; at < line_count; batch = batch % LARGEST + 1) {
            size_t size = line_count - at < batch ? line_count - at : batch;
            run_batch(function, instance, lines + at, size, round > 0);
            at += size;
        }
        /* a state that fits nobody: the instance keeps its own */
        taken nonsense = { 0 };
        gaugefn_slice key = GAUGEFN_TEXT("odd"), value = GAUGEFN_TEXT("{");
        put(&nonsense, key, value);
        entries_saved--;
        if (load(function, instance, nonsense))
            fail("a malformed state was taken by", arguments[2]);
        taken state = save(function, instance);
        void *next = function->open ? function->open(&host.known) : NULL;
        taken nothing = { 0 };
        if (!load(function, next, nothing) || !load(function, next, state))
            fail("its own state was refused by", arguments[2]);
        /* and once more, over what is there */
        if (!load(function, next, save(function, instance)))
            fail("its own state was refused by", arguments[2]);
        function->close(instance);
        instance = next;
    }
    function->close(instance);
    for (size_t n = 0; n < line_count; n++)
        free(lines[n]);
    free(lines);
    printf("%lu unset, %lu empty, %lu output, %lu failed, %lu unusable, %lu entries, %lu lost, %lu refused, %lu logged, "
           "%lu measured\n",
           counts[0], counts[1], counts[2], counts[3], counts[4], entries_saved, entries_lost, refusals, logged, measured);
    return 0;
}
