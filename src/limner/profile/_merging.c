/* What `merge` and `pool` do to many rows with numpy, entry by entry and without the interpreter.
 *
 * Plain C on arrays that numpy owns; one pass, no sorting, nothing allocated. Whatever is rare (a
 * number that its column is too narrow for, a full block of the largest class, no room) is left to
 * the plain way: it is named in `left`, and nothing of it was done. tests/property/test_merging.py
 * holds the two against each other.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { I1, I2, I4, I8, U1, U2, U4, U8, F4, F8 };
enum { SUM, MIN, MAX, DECAY, LATEST };
/* what `left` says: the plain way, or the same again with more room */
enum { PLAIN = 1, ROOM = 2 };

static const int SIZE[] = {1, 2, 4, 8, 1, 2, 4, 8, 4, 8};
static const int64_t LEAST[] = {INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN, 0, 0, 0, 0};
static const int64_t MOST[] = {INT8_MAX,  INT16_MAX,  INT32_MAX,  INT64_MAX,
                               UINT8_MAX, UINT16_MAX, UINT32_MAX, INT64_MAX};

#define MOST_COLUMNS 16
#define MOST_VALUES 64 /* numbers of all columns of one row or entry */

typedef struct {
    int op, width, dtype, lives;
    int64_t at; /* within a record, or the column's place in a row of the table of classes */
    const int64_t *ints;
    const double *floats; /* neither: the number 1 */
} Column;

typedef union { int64_t i; double f; } Number;

static int is_float(int dtype) { return dtype >= F4; }

static int64_t get_int(const char *at, int dtype) {
    switch (dtype) {
    case I1: return *(const int8_t *)at;
    case U1: return *(const uint8_t *)at;
    case I2: { int16_t v; memcpy(&v, at, 2); return v; }
    case U2: { uint16_t v; memcpy(&v, at, 2); return v; }
    case I4: { int32_t v; memcpy(&v, at, 4); return v; }
    case U4: { uint32_t v; memcpy(&v, at, 4); return v; }
    default: { int64_t v; memcpy(&v, at, 8); return v; }
    }
}

static double get_float(const char *at, int dtype) {
    if (dtype == F4) { float v; memcpy(&v, at, 4); return v; }
    double v; memcpy(&v, at, 8); return v;
}

static void put(char *at, int dtype, Number number) {
    switch (dtype) {
    case I1: case U1: { uint8_t v = (uint8_t)number.i; memcpy(at, &v, 1); return; }
    case I2: case U2: { uint16_t v = (uint16_t)number.i; memcpy(at, &v, 2); return; }
    case I4: case U4: { uint32_t v = (uint32_t)number.i; memcpy(at, &v, 4); return; }
    case I8: case U8: memcpy(at, &number.i, 8); return;
    case F4: { float v = (float)number.f; memcpy(at, &v, 4); return; }
    default: memcpy(at, &number.f, 8);
    }
}

static int fits(int dtype, int64_t value) {
    return value >= LEAST[dtype] && value <= MOST[dtype];
}

static Number given(const Column *column, int64_t row, int place) {
    Number out;
    int64_t at = row * column->width + place;
    if (is_float(column->dtype))
        out.f = column->floats ? column->floats[at] : column->ints ? (double)column->ints[at] : 1.0;
    else
        out.i = column->ints ? column->ints[at] : column->floats ? (int64_t)column->floats[at] : 1;
    return out;
}

/* The columns `t` and `p` among these, −1 where there is none. */
typedef struct { int t, p; } Keys;

/* Merge contribution `row` into the cells, or say that a column is too narrow (0). */
static int merge(const Column *columns, int n, Keys keys, char **cells, const double *lives,
                 int64_t row, int checked) {
    Number out[MOST_VALUES];
    int64_t kept_t = 0, new_t = 0;
    double kept_age = 0, new_age = 0;
    int later = 1, k = 0;
    if (keys.t >= 0) {
        kept_t = get_int(cells[keys.t], columns[keys.t].dtype);
        new_t = given(&columns[keys.t], row, 0).i;
        later = new_t > kept_t;
        /* in floats: an identity is so far back that a difference of integers would overflow */
        if (later) kept_age = (double)new_t - (double)kept_t;
        else new_age = (double)kept_t - (double)new_t;
    }
    if (keys.p >= 0 && new_t == kept_t)
        later = given(&columns[keys.p], row, 0).i > get_int(cells[keys.p], columns[keys.p].dtype);
    for (int c = 0; c < n; c++) {
        const Column *column = &columns[c];
        const char *cell = cells[c];
        int dtype = column->dtype, size = SIZE[dtype];
        for (int w = 0; w < column->width; w++, cell += size, k++) {
            Number b = given(column, row, w);
            if (c == keys.p) {
                out[k].i = later ? b.i : get_int(cell, dtype);
            } else if (is_float(dtype)) {
                double a = get_float(cell, dtype);
                switch (column->op) {
                case SUM: out[k].f = a + b.f; break;
                case MIN: out[k].f = b.f < a ? b.f : a; break;
                case MAX: out[k].f = b.f > a ? b.f : a; break;
                case LATEST: out[k].f = later ? b.f : a; break;
                default: {
                    double life = lives[column->lives + w];
                    if (kept_age > 0 && a != 0) a *= exp2(-kept_age / life);
                    if (new_age > 0) b.f *= exp2(-new_age / life);
                    out[k].f = a + b.f;
                } }
            } else {
                int64_t a = get_int(cell, dtype);
                switch (column->op) {
                case SUM: out[k].i = (int64_t)((uint64_t)a + (uint64_t)b.i); break;
                case MIN: out[k].i = b.i < a ? b.i : a; break;
                case MAX: out[k].i = b.i > a ? b.i : a; break;
                default: out[k].i = later ? b.i : a;
                }
                if (checked && !fits(dtype, out[k].i)) return 0;
            }
        }
    }
    k = 0;
    for (int c = 0; c < n; c++) {
        char *cell = cells[c];
        for (int w = 0; w < columns[c].width; w++, cell += SIZE[columns[c].dtype])
            put(cell, columns[c].dtype, out[k++]);
    }
    return 1;
}

/* -- arguments ---------------------------------------------------------------------------- */

typedef struct {
    Py_buffer of[MOST_COLUMNS + 12];
    int n;
} Buffers;

static void *take(Buffers *buffers, PyObject *object, int writable, Py_ssize_t *bytes) {
    Py_buffer *buffer = &buffers->of[buffers->n];
    if (PyObject_GetBuffer(object, buffer, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0)
        return NULL;
    buffers->n++;
    if (bytes) *bytes = buffer->len;
    return buffer->buf;
}

static void release(Buffers *buffers) {
    while (buffers->n) PyBuffer_Release(&buffers->of[--buffers->n]);
}

static PyObject *wrong(Buffers *buffers, const char *what) {
    release(buffers);
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, what);
    return NULL;
}

/* Columns as `spec` says them, five numbers each (op, width, dtype, at, what is given), and the
 * arrays of `values` in their order; -1 is an error. */
static int columns_of(Buffers *buffers, const int64_t *spec, Py_ssize_t n, PyObject *values,
                      int64_t rows, Column *columns, Keys *keys) {
    int lives = 0, numbers = 0;
    keys->t = keys->p = -1;
    if (n > MOST_COLUMNS || PyTuple_Size(values) != n) return -1;
    for (Py_ssize_t c = 0; c < n; c++, spec += 5) {
        Column *column = &columns[c];
        column->op = (int)spec[0] & 7;
        if (spec[0] & 8) keys->t = (int)c;
        if (spec[0] & 16) keys->p = (int)c;
        column->width = (int)spec[1];
        column->dtype = (int)spec[2];
        column->at = spec[3];
        column->lives = lives;
        column->ints = NULL;
        column->floats = NULL;
        if (column->op == DECAY) lives += column->width;
        numbers += column->width;
        if (column->dtype < 0 || column->dtype > F8 || numbers > MOST_VALUES) return -1;
        PyObject *object = PyTuple_GetItem(values, c);
        if (object == Py_None) continue;
        Py_ssize_t bytes;
        void *data = take(buffers, object, 0, &bytes);
        if (!data || bytes != 8 * rows * column->width) return -1;
        if (spec[4]) column->floats = data;
        else column->ints = data;
    }
    return 0;
}

/* -- fixed columns: merge_fixed(records, record size, rows, spec, lives, values) ------------ */

static PyObject *merge_fixed(PyObject *self, PyObject *const *args, Py_ssize_t n_args) {
    Buffers buffers = {.n = 0};
    Column columns[MOST_COLUMNS];
    Keys keys;
    Py_ssize_t held, row_bytes, spec_bytes;
    if (n_args != 6) return wrong(&buffers, "merge_fixed takes 6 arguments");
    char *records = take(&buffers, args[0], 1, &held);
    int64_t size = PyLong_AsLongLong(args[1]);
    if (!records || size <= 0) return wrong(&buffers, "records");
    const int64_t *rows = take(&buffers, args[2], 0, &row_bytes);
    const int64_t *spec = rows ? take(&buffers, args[3], 0, &spec_bytes) : NULL;
    const double *lives = spec ? take(&buffers, args[4], 0, NULL) : NULL;
    if (!lives) return wrong(&buffers, "rows, spec, lives");
    int64_t m = row_bytes / 8;
    int n = (int)(spec_bytes / 40);
    if (columns_of(&buffers, spec, n, args[5], m, columns, &keys) < 0)
        return wrong(&buffers, "columns and values do not go together");
    int64_t bad = 0;
    Py_BEGIN_ALLOW_THREADS
    char *cells[MOST_COLUMNS];
    for (int64_t i = 0; i < m; i++) {
        if (rows[i] < 0 || (rows[i] + 1) * size > held) { bad = 1; break; }
        char *record = records + rows[i] * size;
        for (int c = 0; c < n; c++) cells[c] = record + columns[c].at;
        merge(columns, n, keys, cells, lives, i, 0);
    }
    Py_END_ALLOW_THREADS
    if (bad) return wrong(&buffers, "a row is not among the records");
    release(&buffers);
    Py_RETURN_NONE;
}

/* -- maps ---------------------------------------------------------------------------------- */

/* A row of the table of classes; the addresses of the columns follow. */
enum { CAPACITY, USED, SPACE, KEYS, COUNT, WIDE_COUNT, LOST, LOST_BYTES, FREE, FREED, WANTED, FIXED };

static char *address(int64_t number) { return (char *)(intptr_t)number; }

static int64_t get_count(const int64_t *cls, int64_t block) {
    if (cls[WIDE_COUNT]) return ((int32_t *)address(cls[COUNT]))[block];
    return ((uint8_t *)address(cls[COUNT]))[block];
}

static void put_count(const int64_t *cls, int64_t block, int64_t count) {
    if (cls[WIDE_COUNT]) ((int32_t *)address(cls[COUNT]))[block] = (int32_t)count;
    else ((uint8_t *)address(cls[COUNT]))[block] = (uint8_t)count;
}

#define FIND(type)                                                                               \
    {                                                                                            \
        const type *k = (const type *)keys, wanted = (type)key;                                  \
        int64_t j = 0;                                                                           \
        for (; j + 16 <= n; j += 16) {                                                           \
            int any = 0;                                                                         \
            for (int x = 0; x < 16; x++) any |= k[j + x] == wanted;                              \
            if (any) break;                                                                      \
        }                                                                                        \
        for (; j < n; j++)                                                                       \
            if (k[j] == wanted) return j;                                                        \
        return -1;                                                                               \
    }

static int64_t find(const char *keys, int size, int64_t n, int64_t key) {
    switch (size) {
    case 1: FIND(uint8_t)
    case 2: FIND(uint16_t)
    case 4: FIND(uint32_t)
    default: FIND(uint64_t)
    }
}

/* Move a user's entries (`count` of block `from` of class `old`, if any) into a block of `new`. */
static int64_t move(int64_t *old, int64_t *new, int64_t from, int64_t count, int key_size,
                    const Column *columns, int n) {
    int64_t *freed = &new[FREED];
    int64_t block = *freed ? ((int32_t *)address(new[FREE]))[--*freed] : new[USED]++;
    put_count(new, block, count);
    if (new[LOST_BYTES]) memset(address(new[LOST]) + block * new[LOST_BYTES], 0, new[LOST_BYTES]);
    for (int c = -1; c < n && old; c++) {
        int64_t size = c < 0 ? key_size : SIZE[columns[c].dtype] * columns[c].width;
        int64_t at = c < 0 ? KEYS : columns[c].at;
        char *there = address(old[at]) + from * old[CAPACITY] * size;
        memcpy(address(new[at]) + block * new[CAPACITY] * size, there, count * size);
        memset(there, 0, old[CAPACITY] * size); /* nobody's any more */
    }
    if (old) {
        put_count(old, from, 0);
        ((int32_t *)address(old[FREE]))[old[FREED]++] = (int32_t)from;
    }
    return block;
}

/* add(table, shape, spec, lives, classes, blocks, rows, keys, values, left) -> (left, moved) */
static PyObject *add(PyObject *self, PyObject *const *args, Py_ssize_t n_args) {
    Buffers buffers = {.n = 0};
    Column columns[MOST_COLUMNS];
    Keys which;
    Py_ssize_t table_bytes, spec_bytes, held, held_blocks, row_bytes, key_bytes, left_bytes;
    if (n_args != 10) return wrong(&buffers, "add takes 10 arguments");
    int64_t *table = take(&buffers, args[0], 1, &table_bytes);
    const int64_t *shape = table ? take(&buffers, args[1], 0, NULL) : NULL;
    const int64_t *spec = shape ? take(&buffers, args[2], 0, &spec_bytes) : NULL;
    const double *lives = spec ? take(&buffers, args[3], 0, NULL) : NULL;
    int8_t *classes = lives ? take(&buffers, args[4], 1, &held) : NULL;
    int32_t *blocks = classes ? take(&buffers, args[5], 1, &held_blocks) : NULL;
    const int64_t *rows = blocks ? take(&buffers, args[6], 0, &row_bytes) : NULL;
    const int64_t *keys = rows ? take(&buffers, args[7], 0, &key_bytes) : NULL;
    int8_t *left = keys ? take(&buffers, args[9], 1, &left_bytes) : NULL;
    if (!left) return wrong(&buffers, "arguments");
    /* how many classes, numbers in a row of the table, bytes of a key, entries with a key merge,
     * a full block is left to the plain way */
    int64_t last = shape[0] - 1, stride = shape[1];
    int key_size = SIZE[shape[2]], unique = (int)shape[3], careful = (int)shape[4];
    int64_t m = row_bytes / 8;
    int n = (int)(spec_bytes / 40);
    if (table_bytes != 8 * (last + 1) * stride || stride < FIXED || key_bytes != row_bytes
        || left_bytes < m
        || columns_of(&buffers, spec, n, args[8], m, columns, &which) < 0)
        return wrong(&buffers, "table, columns and values do not go together");
    if (held > held_blocks / 4) held = held_blocks / 4;
    int64_t over = 0, moved = 0, bad = 0;
    Py_BEGIN_ALLOW_THREADS
    char *cells[MOST_COLUMNS];
    for (int64_t i = 0; i < m; i++) {
        int64_t row = rows[i], key = keys[i], count = 0, block = 0;
        if (row < 0 || row >= held) { bad = 1; break; }
        int cls = classes[row], narrow = !fits((int)shape[2], key);
        int64_t *mine = NULL;
        left[i] = 0;
        if (cls >= 0 && !narrow) {
            mine = table + cls * stride;
            block = blocks[row];
            count = get_count(mine, block);
            int64_t first = block * mine[CAPACITY];
            int64_t place = unique ? find(address(mine[KEYS]) + first * key_size, key_size, count, key) : -1;
            if (place >= 0) {
                for (int c = 0; c < n; c++)
                    cells[c] = address(mine[columns[c].at])
                             + (first + place) * columns[c].width * SIZE[columns[c].dtype];
                if (!merge(columns, n, which, cells, lives, i, 1)) { left[i] = PLAIN; over++; }
                continue;
            }
        }
        int full = !mine || count == mine[CAPACITY];
        for (int c = 0; c < n && !narrow; c++)
            for (int w = 0; w < columns[c].width && !is_float(columns[c].dtype); w++)
                if (!fits(columns[c].dtype, given(&columns[c], i, w).i)) { narrow = 1; break; }
        if (narrow || (cls == last && (full || careful))) { left[i] = PLAIN; over++; continue; }
        if (full) {
            int64_t *next = table + (cls + 1) * stride;
            if (!next[FREED] && next[USED] >= next[SPACE]) {
                next[WANTED]++;
                left[i] = ROOM;
                over++;
                continue;
            }
            block = move(mine, next, block, count, key_size, columns, n);
            classes[row] = (int8_t)(cls + 1);
            blocks[row] = (int32_t)block;
            mine = next;
            moved = 1;
        }
        int64_t at = block * mine[CAPACITY] + count;
        Number number = {.i = key};
        put(address(mine[KEYS]) + at * key_size, (int)shape[2], number);
        for (int c = 0; c < n; c++) {
            int size = SIZE[columns[c].dtype];
            char *cell = address(mine[columns[c].at]) + at * columns[c].width * size;
            for (int w = 0; w < columns[c].width; w++)
                put(cell + w * size, columns[c].dtype, given(&columns[c], i, w));
        }
        put_count(mine, block, count + 1);
    }
    Py_END_ALLOW_THREADS
    if (bad) return wrong(&buffers, "a row is not among the users");
    release(&buffers);
    return Py_BuildValue("LL", (long long)over, (long long)moved);
}

static PyMethodDef METHODS[] = {
    {"merge_fixed", (PyCFunction)(void (*)(void))merge_fixed, METH_FASTCALL,
     "merge_fixed(records, size, rows, spec, lives, values): merge contributions into records."},
    {"add", (PyCFunction)(void (*)(void))add, METH_FASTCALL,
     "add(table, shape, spec, lives, classes, blocks, rows, keys, values, left): merge entries\n"
     "into a pool's maps; (how many are left to do, whether a user moved to another block)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_merging", NULL, 0, METHODS,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__merging(void) { return PyModule_Create(&MODULE); }
