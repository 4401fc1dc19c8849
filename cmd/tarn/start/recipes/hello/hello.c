#include <stdio.h>

int main(void)
{
	puts("hello from a package that was built from source");
	return 0;
}
