// Package elfstrip takes from ELF programs and shared libraries what they do not need to
// run: debugging information and symbols. It does what strip, and objcopy with
// --only-keep-debug and --add-gnu-debuglink, of GNU binutils do, for files of the
// types ET_EXEC and ET_DYN.
//
// What a program is loaded from stays where it is, byte for byte: only what lies behind the
// last segment is laid out anew, and the table of section headers. So nothing that the
// loader, or another section, points to moves. The same file gives the same bytes.
//
// The format is that of the System V ABI, chapters 4 and 5, and of the "Debugging
// Information in Separate Files" of GDB's manual.
package elfstrip
