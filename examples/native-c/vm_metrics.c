/*
 * The same function in C, without a JSON library: it looks for the fields that it needs.
 *
 *     make && gaugefn invoke libvm_metrics.so --event metrics.jsonl
 */
#include "gaugefn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPUS 256
#define WINDOW 12 /* samples of one minute, at one each five seconds */

typedef struct {
    double samples[WINDOW];
    size_t count;
} window;

typedef struct {
    const gaugefn_host *host;
    window windows[CPUS];
} state;

static void *open_state(const gaugefn_host *host) {
    state *made = calloc(1, sizeof *made);
    if (made)
        made->host = host;
    return made;
}

static void close_state(void *instance) {
    free(instance);
}

/* Text that grows. */
typedef struct {
    char *text;
    size_t len, room;
    int failed;
} buffer;

static void append(buffer *to, const char *format, ...) {
    for (;;) {
        va_list arguments;
        va_start(arguments, format);
        int wanted = vsnprintf(to->text ? to->text + to->len : NULL, to->room - to->len, format, arguments);
        va_end(arguments);
        if (wanted < 0 || to->failed) {
            to->failed = 1;
            return;
        }
        if ((size_t)wanted < to->room - to->len) {
            to->len += (size_t)wanted;
            return;
        }
        size_t room = to->len + (size_t)wanted + 1024;
        char *text = realloc(to->text, room);
        if (!text) {
            to->failed = 1;
            return;
        }
        to->text = text;
        to->room = room;
    }
}

/* The shortest text of a number that reads back as the same; a fraction is always there. */
static void append_number(buffer *to, double number) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    append(to, strpbrk(text, ".en") ? "%s" : "%s.0", text);
}

static void answer(gaugefn_outcome *outcome, uint32_t status, buffer *text) {
    outcome->status = text->failed ? GAUGEFN_UNSET : status;
    outcome->value.data = (const uint8_t *)text->text;
    outcome->value.len = text->len;
}

static void fail(gaugefn_outcome *outcome, uint32_t status, const char *reason, const char *what) {
    buffer text = { 0 };
    append(&text, "%s%s", reason, what);
    answer(outcome, status, &text);
}

static const char *skip(const char *at) {
    return at + strspn(at, " \t\r\n");
}

/* Behind a string, or null; of this flat object's strings no key has an escape. */
static const char *string_end(const char *at) {
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && !*++at)
            return NULL;
    return *at ? at + 1 : NULL;
}

static const char *const NEEDED[] = {
    "net_io_counters_eth0-bytes_sent", "net_io_counters_eth0-bytes_recv",
    "virtual_memory-buffers",          "virtual_memory-cached",
    "virtual_memory-total",
};
enum { SENT, RECEIVED, BUFFERS, CACHED, TOTAL, NEEDED_COUNT };

static void handle(state *own, const char *at, gaugefn_outcome *outcome) {
    unsigned long long needed[NEEDED_COUNT] = { 0 };
    unsigned found = 0;
    buffer averages = { 0 }, text = { 0 };
    at = skip(at);
    if (*at++ != '{')
        goto malformed;
    for (at = skip(at); *at && *at != '}'; at = skip(at)) {
        if (*at != '"')
            goto malformed;
        const char *key = at + 1, *end = string_end(at);
        if (!end)
            goto malformed;
        size_t length = (size_t)(end - 1 - key);
        at = skip(end);
        if (*at++ != ':')
            goto malformed;
        at = skip(at);
        char *behind = NULL;
        if (length > 12 && !strncmp(key, "cpu_percent-", 12)) {
            double percent = strtod(at, &behind);
            long cpu = strtol(key + 12, NULL, 10);
            if (behind == at || cpu < 0 || cpu >= CPUS)
                goto malformed;
            window *samples = &own->windows[cpu];
            if (samples->count == WINDOW)
                memmove(samples->samples, samples->samples + 1, --samples->count * sizeof(double));
            samples->samples[samples->count++] = percent;
            double sum = 0;
            for (size_t n = 0; n < samples->count; n++)
                sum += samples->samples[n];
            append(&averages, ", \"avg-util-cpu%.*s-60sec\": ", (int)(length - 12), key + 12);
            append_number(&averages, sum / (double)samples->count);
            at = behind;
        } else if (*at == '"') {
            at = string_end(at);
            if (!at)
                goto malformed;
        } else {
            for (int n = 0; n < NEEDED_COUNT; n++)
                if (strlen(NEEDED[n]) == length && !strncmp(key, NEEDED[n], length)) {
                    needed[n] = strtoull(at, NULL, 10);
                    found |= 1u << n;
                }
            /* a number or a word; the metrics have no inner objects */
            at += strcspn(at, ",}");
        }
        at = skip(at);
        if (*at == ',')
            at++;
        else if (*at != '}')
            goto malformed;
    }
    if (*at != '}' || *skip(at + 1))
        goto malformed;
    for (int n = 0; n < NEEDED_COUNT; n++)
        if (!(found & 1u << n)) {
            fail(outcome, GAUGEFN_UNUSABLE, "the event has no ", NEEDED[n]);
            goto end;
        }
    unsigned long long traffic = needed[SENT] + needed[RECEIVED];
    append(&text, "{\"percent-network-egress\": ");
    append_number(&text, traffic ? 100.0 * (double)needed[SENT] / (double)traffic : 0.0);
    append(&text, ", \"percent-memory-cache\": ");
    append_number(&text, 100.0 * (double)(needed[BUFFERS] + needed[CACHED]) / (double)needed[TOTAL]);
    append(&text, "%s}", averages.text ? averages.text : "");
    answer(outcome, GAUGEFN_OUTPUT, &text);
    goto end;
malformed:
    fail(outcome, GAUGEFN_UNUSABLE, "the event is no flat json object", "");
end:
    free(averages.text);
}

static void call(void *instance, const gaugefn_call *call) {
    if (!instance)
        return; /* out of memory: every outcome stays unset, which is a failure */
    for (size_t n = 0; n < call->count; n++) {
        gaugefn_slice payload = gaugefn_event_at(call, n)->payload;
        /* strtod wants a final zero byte */
        char *copy = malloc(payload.len + 1);
        if (!copy)
            continue;
        memcpy(copy, payload.data, payload.len);
        copy[payload.len] = 0;
        handle(instance, copy, gaugefn_outcome_at(call, n));
        free(copy);
    }
}

static void release(void *instance, const gaugefn_call *call) {
    (void)instance;
    for (size_t n = 0; n < call->count; n++)
        free((void *)gaugefn_outcome_at(call, n)->value.data);
}

/* One entry for each processor: "cpu0": [10.0, 20.0]. */
static void save(void *instance, const gaugefn_save *save) {
    const state *own = instance;
    for (size_t cpu = 0; own && cpu < CPUS; cpu++) {
        const window *samples = &own->windows[cpu];
        if (!samples->count)
            continue;
        char name[16];
        int length = snprintf(name, sizeof name, "cpu%zu", cpu);
        gaugefn_slice key = { (const uint8_t *)name, (size_t)length };
        buffer text = { 0 };
        for (size_t n = 0; n < samples->count; n++) {
            append(&text, n ? ", " : "[");
            append_number(&text, samples->samples[n]);
        }
        append(&text, "]");
        if (text.failed) {
            gaugefn_slice reason = GAUGEFN_TEXT("out of memory");
            save->lose(save->handle, key, reason);
        } else {
            gaugefn_slice value = { (const uint8_t *)text.text, text.len };
            save->put(save->handle, key, value);
        }
        free(text.text);
    }
}

/* Reads what `save` wrote, or what a version with a longer window did; 0 if it is something else. */
static int read_window(window *samples, const char *at) {
    if (*(at = skip(at)) != '[')
        return 0;
    do {
        char *behind;
        double sample = strtod(++at, &behind);
        if (behind == at)
            return 0;
        if (samples->count == WINDOW)
            memmove(samples->samples, samples->samples + 1, --samples->count * sizeof(double));
        samples->samples[samples->count++] = sample;
        at = skip(behind);
    } while (*at == ',');
    return *at == ']';
}

static void load(void *instance, const gaugefn_load *load) {
    static const gaugefn_slice memory = GAUGEFN_TEXT("out of memory"), other = GAUGEFN_TEXT("not of this function");
    state *own = instance;
    /* apart, so that the state stays as it is where something does not fit */
    window *windows = calloc(CPUS, sizeof *windows);
    const gaugefn_slice *reason = own && windows ? NULL : &memory;
    for (size_t n = 0; !reason && n < load->count; n++) {
        const gaugefn_entry *entry = gaugefn_entry_at(load, n);
        char *copy = malloc(entry->key.len + entry->value.len + 2);
        if (!copy) {
            reason = &memory;
            break;
        }
        /* strtol and strtod want final zero bytes */
        char *value = copy + entry->key.len + 1;
        memcpy(copy, entry->key.data, entry->key.len);
        memcpy(value, entry->value.data, entry->value.len);
        copy[entry->key.len] = value[entry->value.len] = 0;
        char *behind = copy;
        long cpu = strncmp(copy, "cpu", 3) ? -1 : strtol(copy + 3, &behind, 10);
        if (cpu < 0 || cpu >= CPUS || *behind || !read_window(&windows[cpu], value))
            reason = &other;
        free(copy);
    }
    if (reason)
        load->refuse(load->handle, *reason);
    else
        memcpy(own->windows, windows, sizeof own->windows);
    free(windows);
}

static const gaugefn_function functions[] = {
    {
        .name = GAUGEFN_TEXT("handler"),
        .open = open_state,
        .call = call,
        .release = release,
        .close = close_state,
        .save = save,
        .load = load,
    },
};
GAUGEFN_EXPORT(functions);
