# How the module loads: from where, beside what, again and again. Each test has a PowerShell of its own.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"

    function Invoke-Shell([string] $Script) {
        $text = "`$ErrorActionPreference = 'Stop'; `$PSStyle.OutputRendering = 'PlainText'; `$module = '$Module'; `$pool = '$Pool'; $Script"
        $out = & pwsh -NoProfile -NonInteractive -OutputFormat Text -Command $text 2>&1
        if ($LASTEXITCODE -ne 0) { throw "The shell ended with $LASTEXITCODE`: $out" }
        $out
    }

    # Another module's YamlDotNet: the same name, an older version, other content.
    $script:Other = Join-Path $TestDrive 'other/YamlDotNet.dll'
    $null = New-Item -ItemType Directory (Split-Path $Other)
    $builder = [System.Reflection.Emit.PersistedAssemblyBuilder]::new([System.Reflection.AssemblyName]::new('YamlDotNet, Version=5.0.0.0'), [object].Assembly)
    $type = $builder.DefineDynamicModule('YamlDotNet').DefineType('YamlDotNet.Marker', 'Public')
    $code = $type.DefineMethod('Text', 'Public, Static', [string], [type]::EmptyTypes).GetILGenerator()
    $code.Emit([System.Reflection.Emit.OpCodes]::Ldstr, 'other')
    $code.Emit([System.Reflection.Emit.OpCodes]::Ret)
    $null = $type.CreateType()
    $builder.Save($Other)
    $script:Pool = Join-Path $TestDrive 'pool.yaml'
    Set-Content $Pool 'name: [not a pool'
    # What is loaded under a name, as "context version", sorted.
    $script:Loaded = '[AppDomain]::CurrentDomain.GetAssemblies() | Where-Object { $_.GetName().Name -eq "{0}" } | ForEach-Object { "$([System.Runtime.Loader.AssemblyLoadContext]::GetLoadContext($_).Name) $($_.GetName().Version.Major)" } | Sort-Object'
}

Describe 'Loading' {
    It 'exports what the manifest names, and nothing else' {
        $manifest = Import-PowerShellDataFile "$Module/VMatrix.psd1"
        $names = Invoke-Shell 'Import-Module $module; (Get-Command -Module VMatrix).Name'
        $names | Sort-Object | Should -Be ($manifest.CmdletsToExport | Sort-Object)
    }

    It 'has a manifest that PowerShell finds in order' {
        (Test-ModuleManifest "$Module/VMatrix.psd1" -ErrorAction Stop).Version | Should -Be '0.1.0'
    }

    It 'loads nothing of the engine before it is used' {
        Invoke-Shell 'Import-Module $module; [AppDomain]::CurrentDomain.GetAssemblies().GetName().Name -match "^(VMatrix|YamlDotNet|SQLite)"' |
            Sort-Object | Should -Be 'VMatrix.Cmdlets', 'VMatrix.Model'
    }

    It 'keeps the engine and its packages in a context of their own' {
        $where = Invoke-Shell ('Import-Module $module; $null = Test-VMatrixPool $pool; ' + (('VMatrix.Model', 'VMatrix.Engine', 'VMatrix.Core', 'YamlDotNet' | ForEach-Object { $Loaded.Replace('{0}', $_) }) -join ';'))
        $where -replace ' \d+$' | Should -Be 'Default', 'VMatrix.Engine', 'VMatrix.Engine', 'VMatrix.Engine'
    }

    It 'works after another module brought another version of a package' {
        $said = Invoke-Shell ('Add-Type -Path "' + $Other + '"; Import-Module $module; Test-VMatrixPool $pool; [YamlDotNet.Marker]::Text(); ' + $Loaded.Replace('{0}', 'YamlDotNet'))
        $said[0..2] | Should -Be 'False', 'other', 'Default 5'
        $said[3] | Should -Match '^VMatrix\.Engine (?!5$)\d+$'
    }

    It 'leaves another module its own version of a package that comes later' {
        $said = Invoke-Shell ('Import-Module $module; Test-VMatrixPool $pool; Add-Type -Path "' + $Other + '"; [YamlDotNet.Marker]::Text(); Test-VMatrixPool $pool')
        $said | Should -Be 'False', 'other', 'False'
    }

    It 'exports the same, and works, after Import-Module -Force and after removal' {
        $said = Invoke-Shell 'Import-Module $module; Test-VMatrixPool $pool; Import-Module $module -Force; (Get-Command -Module VMatrix).Count -gt 9; Test-VMatrixPool $pool; Remove-Module VMatrix; Import-Module $module; Test-VMatrixPool $pool'
        $said | Should -Be 'False', 'True', 'False', 'False'
    }

    It 'says in one error that <File> is missing, and the shell lives on' -ForEach @(
        @{ File = 'engine/VMatrix.Engine.dll' }
        @{ File = 'engine/VMatrix.Core.dll' }
        @{ File = 'engine/YamlDotNet.dll' }
        @{ File = 'VMatrix.Model.dll' }
    ) {
        $copy = Join-Path $TestDrive ([guid]::NewGuid())
        Copy-Item -Recurse $Module $copy
        Remove-Item "$copy/bin/net10.0/$File"
        $said = Invoke-Shell "`$ErrorActionPreference = 'Continue'; try { Import-Module '$copy/VMatrix.psd1'; Get-VMatrixServer -Pool `$pool } catch { `"`$_`" }; `$error.Count; 'alive'"
        $said[-1] | Should -Be 'alive'
        # The import tells what its own import of the assembly told.
        $said[-2] | Should -Be $(if ($File -eq 'VMatrix.Model.dll') { '2' } else { '1' })
        "$said" | Should -BeLike "*$((Split-Path $File -LeafBase))*"
        if ($File -ne 'VMatrix.Model.dll') { "$said" | Should -BeLike "*is missing*Install the module again, then start a new PowerShell session*" }
    }

    It 'makes an error of a history that cannot be read, and lists on' {
        $copy = Join-Path $TestDrive ([guid]::NewGuid())
        Copy-Item -Recurse $Module $copy
        Remove-Item -Recurse "$copy/bin/net10.0/engine/runtimes"
        $good = New-TestPool
        $said = Invoke-Shell "`$ErrorActionPreference = 'SilentlyContinue'; Import-Module '$copy/VMatrix.psd1'; (New-VMatrixServer FINANCE -Pool '$good').Name; Get-VMatrixMove -Pool '$good'; Get-VMatrixHost -History -Pool '$good'; `$error.FullyQualifiedErrorId; (Get-VMatrixServer -Pool '$good').Name"
        $said | Should -Be 'FINANCE-1', 'HistoryUnreadable,VMatrix.Commands.GetVMatrixHostCommand', 'HistoryUnreadable,VMatrix.Commands.GetVMatrixMoveCommand', 'FINANCE-1'
    }

    It 'stays whole when its files go while it is loaded' {
        $copy = Join-Path $TestDrive ([guid]::NewGuid())
        Copy-Item -Recurse $Module $copy
        $said = Invoke-Shell "Import-Module '$copy/VMatrix.psd1'; Remove-Item -Recurse '$copy/bin/net10.0/engine'; try { Get-VMatrixServer -Pool `$pool } catch { `$_.FullyQualifiedErrorId }; Remove-Module VMatrix; 'alive'"
        $said | Should -Be 'ModuleIncomplete,VMatrix.Commands.GetVMatrixServerCommand', 'alive'
    }

    It 'refuses a second copy in one session with one error, <When>' -ForEach @(
        @{ When = 'beside the first'; Between = '' }
        @{ When = 'after the first was removed'; Between = 'Remove-Module VMatrix' }
    ) {
        $copy = Join-Path $TestDrive ([guid]::NewGuid())
        Copy-Item -Recurse $Module $copy
        (Get-Content -Raw "$copy/VMatrix.psd1").Replace("'0.1.0'", "'0.2.0'") | Set-Content "$copy/VMatrix.psd1"
        $said = Invoke-Shell "Import-Module `$module; $Between; try { Import-Module '$copy/VMatrix.psd1' } catch { `$_.FullyQualifiedErrorId; `"`$_`" }; `$error.Count"
        $said[0] | Should -BeLike 'ModuleAlreadyLoaded*'
        $said[1] | Should -BeLike "*0.1.0*$Module*new session*"
        $said[2] | Should -Be '1'
    }

    It 'works in several runspaces at once, and in the others when one of them removes it' {
        $said = Invoke-Shell '1..4 | ForEach-Object -Parallel { Import-Module $using:module; Test-VMatrixPool $using:pool; if ($_ -eq 1) { Remove-Module VMatrix } else { Start-Sleep -Milliseconds 300; Test-VMatrixPool $using:pool } }'
        $said | Should -Be (@('False') * 7)
    }
}
