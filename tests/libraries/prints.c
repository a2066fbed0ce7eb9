/* Prints as C does. */
#include <stdio.h>
#include <unistd.h>

#include "gaugefn.h"

static void call(void *instance, const gaugefn_call *call) {
    (void)instance;
    for (size_t n = 0; n < call->count; n++) {
        printf("said by C\n");
        fflush(stdout);
        if (write(STDERR_FILENO, "said by C\n", 10) == 10)
            gaugefn_outcome_at(call, n)->status = GAUGEFN_EMPTY;
    }
}

static const gaugefn_function functions[] = {
    { GAUGEFN_TEXT("handler"), NULL, call, NULL, NULL, NULL, NULL },
};
GAUGEFN_EXPORT(functions);
