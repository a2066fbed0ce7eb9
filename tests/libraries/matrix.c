/*
 * A library whose constructor leaves a mark, and whose note and table say what the command line wants:
 * MARK, MAJOR, MINOR, PANIC, NEWER, OLDER (the minor whose table it has), OPENS, CUT, NO_NOTE, HIDDEN, NEEDS.
 */
#include "gaugefn.h"

#include <stdio.h>
#include <string.h>

#ifndef MAJOR
#define MAJOR GAUGEFN_ABI_MAJOR
#endif
#ifndef MINOR
#define MINOR GAUGEFN_ABI_MINOR
#endif
#ifndef PANIC
#define PANIC GAUGEFN_PANIC_NONE
#endif

__attribute__((constructor)) static void constructed(void) {
    FILE *mark = fopen(MARK, "w");
    if (mark)
        fclose(mark);
}

#ifdef NEEDS
extern int nowhere_to_be_found(void);
#endif

static void call(void *instance, const gaugefn_call *call) {
    (void)instance;
#ifdef NEEDS
    nowhere_to_be_found();
#endif
    for (size_t n = 0; n < call->count; n++) {
        gaugefn_outcome *outcome = gaugefn_outcome_at(call, n);
        gaugefn_slice payload = gaugefn_event_at(call, n)->payload;
        static const gaugefn_slice called = GAUGEFN_TEXT("\"called\""), unset = GAUGEFN_TEXT("\"unset\"");
        if (payload.len == unset.len && !memcmp(payload.data, unset.data, unset.len))
            continue;
        outcome->status = GAUGEFN_OUTPUT;
        outcome->value = called;
    }
}

/* what a later minor may look like: more fields at the ends */
#if defined(NEWER)
#define MORE char more[40];
#else
#define MORE
#endif

#ifdef OPENS
static void *open_one(const gaugefn_host *host) {
    return (void *)host;
}
#define OPEN open_one
#else
#define OPEN 0
#endif

#if defined(OLDER)
/* minor 0 had no `close`, minor 1 no `save` and `load` */
typedef struct {
    gaugefn_slice name;
    void *(*open)(const gaugefn_host *host);
    void (*call)(void *instance, const gaugefn_call *call);
    void (*release)(void *instance, const gaugefn_call *call);
#if OLDER > 0
    void (*close)(void *instance);
#endif
} function;
#define FUNCTION(text) { .name = GAUGEFN_TEXT(text), .open = OPEN, .call = call }
#else
typedef struct {
    gaugefn_function known;
    MORE
} function;
#define FUNCTION(text) { .known = { .name = GAUGEFN_TEXT(text), .open = OPEN, .call = call } }
#endif

static const function functions[] = { FUNCTION("other"), FUNCTION("handler") };

typedef struct {
    gaugefn_library_table known;
    MORE
} table;

#ifdef HIDDEN
__attribute__((visibility("hidden")))
#endif
const table gaugefn_library = { .known = { sizeof(table), MAJOR, MINOR, PANIC, GAUGEFN_TEXT("9.8.7"),
    (const uint8_t *)functions, 2, sizeof(function) } };

#ifndef NO_NOTE
typedef struct {
    gaugefn_note known;
    MORE
} note;

#ifdef CUT
#define CONTENT 40
#else
#define CONTENT (sizeof(note) - offsetof(gaugefn_note, content))
#endif

__attribute__((used, aligned(4), section(".note.gaugefn"))) static const note own_note = {
    .known = { 8, CONTENT, 1, "gaugefn", { CONTENT, MAJOR, MINOR, PANIC, "9.8.7", GAUGEFN_TARGET } },
};
#endif
