# CUDA_HOME for kernels compiled while they run: the toolkit's wheels in one folder. nvcc looks for its parts
# beside itself, so its programs are copies and the rest are links.
{ runCommand, environment }:
runCommand "cuda-home" { } ''
  toolkit=$(echo ${environment}/lib/python3*/site-packages/nvidia/cu13)
  mkdir -p $out
  if [ -d "$toolkit" ]; then
    cp -rLs "$toolkit"/. $out
    for folder in bin nvvm; do
      if [ -d $out/$folder ]; then
        rm -rf $out/$folder
        cp -rL "$toolkit/$folder" $out/$folder
      fi
    done
    for library in $out/lib/*.so.*; do
      ln -sfn "$(basename "$library")" "''${library%%.so.*}.so"
    done
    ln -sfn lib $out/lib64
  fi
''
