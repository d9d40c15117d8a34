# How VMatrix's objects look, as a module of its own: VMatrix.psm1 imports it once it knows that no other copy is loaded.
@{
    ModuleVersion     = '0.1.0'
    FormatsToProcess  = @('VMatrix.Format.ps1xml')
    TypesToProcess    = @('VMatrix.Types.ps1xml')
    FunctionsToExport = @()
    AliasesToExport   = @()
    VariablesToExport = @()
    CmdletsToExport   = @()
}
